"""Signatures of a SavedModel: you choose one by name, and messages list the inputs of each."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_files import FILES, NO_SETTINGS, SCALED, VECTORS, assert_gives, encoder_from
from pomona.building.graph import signatures
from pomona.building.graph.signatures import _fields, _message, read_signatures
from pomona.building.network_settings import NetworkSettings
from pomona.errors import EncoderError

CHOSEN = NetworkSettings(resize_mode="squash", mean=127.5, std=127.5, signature="floats")


def with_strings(path: Path, *, floats: bool = True) -> Path:
    """A SavedModel whose `serving_default` takes strings; `floats` is the network's signature."""
    shutil.copytree(FILES / "bare_saved", path)
    content = (path / "saved_model.pb").read_bytes()
    graph = next(each.value for each in _fields(content) if each.number == 2)
    assert isinstance(graph, bytes)
    # TensorInfo: field 1 is the name, 2 the type (7 is a string), 3 a shape, here (unknown,)
    unknown = _message(2, b"\x08" + b"\xff" * 9 + b"\x01")
    tensor_info = _message(1, b"serving_default_image:0") + b"\x10\x07" + _message(3, unknown)
    taken = _message(1, _message(1, b"image_bytes") + _message(2, tensor_info))
    strings = _message(5, _message(1, b"serving_default") + _message(2, taken))
    parts = [strings]
    for field in _fields(graph):
        if field.number != 5 or not isinstance(field.value, bytes):
            parts.append(field.raw)
        elif (key := signatures._text(field.value)) == "serving_default" and floats:
            entry = _message(1, b"floats") + _message(2, signatures._first(field.value, 2))
            parts.append(_message(5, entry))
        elif key != "serving_default":
            parts.append(field.raw)
    (path / "saved_model.pb").write_bytes(_message(2, b"".join(parts)))
    return path


def test_the_named_signature_is_computed(tmp_path: Path) -> None:
    encoder = encoder_from(with_strings(tmp_path / "model"), CHOSEN)
    assert_gives(encoder, VECTORS["backbone"])
    assert encoder.architecture == "TensorFlow SavedModel, signature floats"


def test_naming_the_default_changes_nothing() -> None:
    named = NetworkSettings(
        resize_mode="squash", mean=127.5, std=127.5, signature="serving_default"
    )
    one, other = (
        encoder_from(FILES / "bare_saved", named),
        encoder_from(FILES / "bare_saved", SCALED),
    )
    assert (one.fingerprint, one.probes) == (other.fingerprint, other.probes)


def test_a_signature_that_takes_strings_is_refused_and_the_others_are_listed(
    tmp_path: Path,
) -> None:
    path = with_strings(tmp_path / "model")
    with pytest.raises(EncoderError, match="takes strings, such as the bytes of image") as caught:
        encoder_from(path, NO_SETTINGS)
    assert "floats (" in str(caught.value)
    assert "float32 [?, 32, 32, 3]" in str(caught.value)
    assert "serving_default (image_bytes: string [?])" in str(caught.value)


def test_a_model_with_string_signatures_only_is_refused(tmp_path: Path) -> None:
    path = with_strings(tmp_path / "model", floats=False)
    with pytest.raises(EncoderError, match="takes strings.* or export the model with one"):
        encoder_from(path, SCALED)


def test_an_unknown_signature_is_refused_and_the_known_ones_are_listed(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"has no signature 'fruit': it has floats \(.*3\]\);"):
        encoder_from(
            with_strings(tmp_path / "model"),
            NetworkSettings(resize_mode="squash", scale=1, signature="fruit"),
        )


@pytest.mark.parametrize("file", ["bare.tflite", "bare.keras"])
def test_other_formats_have_no_signatures(file: str) -> None:
    with pytest.raises(EncoderError, match="`signature` floats is for TensorFlow SavedModels"):
        encoder_from(FILES / file, CHOSEN)


@given(st.binary(max_size=300))
def test_any_bytes_give_signatures_or_one_clear_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("model")
    (folder / "saved_model.pb").write_bytes(content)
    with contextlib.suppress(EncoderError):
        read_signatures(folder)  # no other exception is raised


def test_the_shared_model_that_takes_jpeg_bytes_has_a_float_signature(shared_data: Path) -> None:
    path = shared_data / "trials" / "networks" / "takes_jpeg_bytes"
    if not path.exists():
        pytest.skip("the shared data is not on this machine")
    with pytest.raises(EncoderError, match=r"it has floats \(x: float32 \[\?, 32, 32, 3\]\)"):
        encoder_from(path, NO_SETTINGS)
    assert (
        encoder_from(
            path, NetworkSettings(resize_mode="squash", scale=1 / 255, signature="floats")
        ).dimension
        == 8
    )
