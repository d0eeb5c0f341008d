"""Hostile weights, networks, cards and encoders: each gives one clear error."""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from places import TESTS
from pomona.building.file_digest import content_digest
from pomona.building.graph.endpoints import serialized
from pomona.building.keras.load import load_model
from pomona.building.keras.weight_files import read_weights
from pomona.building.network_settings import NetworkSettings
from pomona.encoder.encoder import Encoder
from pomona.encoder.preprocessing import Preprocessing
from pomona.errors import EncoderError
from pomona.runtime.openvino import import_openvino
from pomona.runtime.registry import runtime_for

KERAS = TESTS / "goldens" / "files" / "bare.keras"
FOUR = np.arange(4, dtype=np.float32)

# Weights -----------------------------------------------------------------------------------------


def link_to_another_file(stored: h5py.Group, folder: Path) -> None:
    with h5py.File(folder / "secret.h5", "w") as secret:
        secret["x"] = FOUR
    stored["0"] = h5py.ExternalLink(str(folder / "secret.h5"), "/x")


def link_within(stored: h5py.Group, _: Path) -> None:
    stored["0"] = h5py.SoftLink("/layers")


def bytes_of_another_file(stored: h5py.Group, folder: Path) -> None:
    (folder / "secret").write_bytes(FOUR.tobytes())
    stored.create_dataset("0", (4,), "<f4", external=[(str(folder / "secret"), 0, 16)])


def array_put_together_from_another_file(stored: h5py.Group, folder: Path) -> None:
    with h5py.File(folder / "secret.h5", "w") as secret:
        secret["x"] = FOUR
    layout = h5py.VirtualLayout((4,), "<f4")
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "x", (4,))
    stored.create_virtual_dataset("0", layout)


def circle(stored: h5py.Group, _: Path) -> None:
    stored["0"] = FOUR
    stored.parent["layers"] = stored.file["layers"]


def array_of_petabytes(stored: h5py.Group, _: Path) -> None:
    stored.create_dataset("0", (2**50,), "<f4", chunks=(1024,))


def one_array_many_times(stored: h5py.Group, _: Path) -> None:
    array = stored.create_dataset("0", (10**6,), "<f4", chunks=(1000,), compression="gzip")
    for number in range(1, 1000):
        stored[str(number)] = array


HARMS = (
    (link_to_another_file, "link to another file"),
    (link_within, "link to another file"),
    (bytes_of_another_file, "from another file"),
    (array_put_together_from_another_file, "from another file"),
    (circle, "is circular"),
    (array_of_petabytes, "declares 4503599627370496 bytes"),
    (one_array_many_times, "declares 4000000000 bytes"),
)
Harm = Callable[[h5py.Group, Path], None]


def spoilt(path: Path, harm: Harm) -> Path:
    with h5py.File(path, "w") as file:
        harm(file.create_group("layers/dense/vars"), path.parent)
    return path


@pytest.mark.parametrize(("harm", "message"), HARMS)
def test_weights_that_reference_other_files_or_expand_are_refused(
    tmp_path: Path, harm: Harm, message: str
) -> None:
    with pytest.raises(EncoderError, match=f"w.h5 .*{message}.*: refused"):
        read_weights(spoilt(tmp_path / "w.h5", harm))


# Whole Keras models ------------------------------------------------------------------------------


def archive(path: Path, changed: dict[str, bytes], added: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(KERAS) as before, zipfile.ZipFile(path, "w", 8) as after:
        for name in before.namelist():
            after.writestr(name, changed.get(name) or before.read(name))
        for name, content in added.items():
            after.writestr(name, content)
    return path


def configured(path: Path, **layer: Any) -> Path:
    with zipfile.ZipFile(KERAS) as before:
        config = json.loads(before.read("config.json"))
    config["config"]["layers"][1] |= layer
    return archive(path, {"config.json": json.dumps(config).encode()}, {})


@pytest.mark.parametrize(("harm", "message"), HARMS)
def test_a_model_whose_weights_reference_other_files_or_expand_is_refused(
    tmp_path: Path, harm: Harm, message: str
) -> None:
    weights = spoilt(tmp_path / "w.h5", harm).read_bytes()
    path = archive(tmp_path / "a.keras", {"model.weights.h5": weights}, {})
    with pytest.raises(EncoderError, match=f"a.keras .*{message}.*: refused"):
        load_model(path, trust=False)


@pytest.mark.parametrize("name", ["../evil", "/evil", "assets/../../evil", "model.weights.npz"])
def test_a_model_that_contains_other_files_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(EncoderError, match="and nothing else: refused"):
        load_model(archive(tmp_path / "a.keras", {}, {name: b"x"}), trust=False)
    assert [path.name for path in tmp_path.iterdir()] == ["a.keras"]


def test_a_model_that_contains_a_link_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(KERAS) as before, zipfile.ZipFile(path, "w") as after:
        for name in ("metadata.json", "config.json"):
            after.writestr(name, before.read(name))
        link = zipfile.ZipInfo("model.weights.h5")
        link.external_attr = 0o120777 << 16
        after.writestr(link, "/etc/hostname")
    with pytest.raises(EncoderError, match="and nothing else: refused"):
        load_model(path, trust=False)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_model_that_contains_a_part_twice_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.keras", {}, {"config.json": b"{}"})
    with pytest.raises(EncoderError):
        load_model(path, trust=False)


def test_a_model_that_expands_a_thousandfold_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.keras", {"model.weights.h5": bytes(100 * 2**20)}, {})
    assert path.stat().st_size < 2**20
    with pytest.raises(EncoderError, match="expands to 1048.* bytes, expected no more"):
        load_model(path, trust=False)


@pytest.mark.parametrize("module", ["keras.utils", "keras.src.utils.file_utils", "keras.saving"])
def test_keras_functions_that_are_not_layers_are_refused(tmp_path: Path, module: str) -> None:
    path = configured(tmp_path / "a.keras", module=module, class_name="get_file")
    with pytest.raises(EncoderError, match="uses 'get_file' of keras"):
        load_model(path, trust=False)


@pytest.mark.parametrize(
    ("module", "kind", "config"),
    [
        ("keras", "function", "utils.get_file"),
        ("keras", "utils.get_file", {}),
        ("keras.layers", "..utils.get_file", {}),
        ("keras.models", "load_model", {}),
        ("keras.models", "function", "load_model"),
        ("keras.src.models.model", "function", "model_from_json"),
        ("keras", "function", "config"),
    ],
)
def test_a_name_that_resolves_to_another_keras_function_is_refused(
    tmp_path: Path, module: str, kind: str, config: object
) -> None:
    path = configured(tmp_path / "a.keras", module=module, class_name=kind, config=config)
    with pytest.raises(EncoderError, match="of keras.*, which Keras does not have"):
        load_model(path, trust=False)


def test_a_file_that_is_both_zip_and_hdf5_is_inspected_as_keras_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "both.h5"
    with h5py.File(path, "w") as file:
        layer = {"class_name": "Lambda", "config": {"name": "evil"}}
        file.attrs["model_config"] = json.dumps(
            {"class_name": "Sequential", "config": {"layers": [layer]}}
        )
        file.attrs["keras_version"] = "3.15.1"
    path.write_bytes(path.read_bytes() + KERAS.read_bytes())
    assert zipfile.is_zipfile(path)
    with pytest.raises(EncoderError, match="holds a Lambda layer"):
        load_model(path, trust=False)


@pytest.mark.parametrize("kind", ["TFSMLayer", "TorchModuleWrapper", "StringLookup"])
def test_layers_that_read_other_files_are_refused(tmp_path: Path, kind: str) -> None:
    path = configured(tmp_path / "a.keras", class_name=kind)
    with pytest.raises(EncoderError, match=f"'{kind}', which accesses things outside the file"):
        load_model(path, trust=False)


@pytest.mark.parametrize("config", [None, "text", 5, []])
def test_a_lambda_layer_with_any_config_is_refused(tmp_path: Path, config: object) -> None:
    path = configured(tmp_path / "a.keras", class_name="Lambda", config=config)
    with pytest.raises(EncoderError, match="holds a Lambda layer"):
        load_model(path, trust=False)


# ONNX --------------------------------------------------------------------------------------------


def field(number: int, content: bytes, padding: int = 0) -> bytes:
    """A protobuf field whose length uses more bytes than needed."""
    length = bytearray()
    rest = len(content)
    while rest > 127:
        length.append(rest & 127 | 128)
        rest >>= 7
    length.append(rest)
    for _ in range(padding):
        length[-1] |= 128
        length.append(0)
    return bytes([number << 3 | 2]) + bytes(length) + content


def onnx_with_array_in(location: bytes, *, swapped: bool = False, padding: int = 0) -> bytes:
    key, value = field(1, b"location", padding), field(2, location, padding)
    entry = value + key if swapped else key + value
    return field(7, field(5, field(13, entry, padding)))


@given(st.booleans(), st.integers(0, 3), st.integers(1, 200))
def test_an_external_array_is_found_in_any_encoding(
    tmp_path_factory: pytest.TempPathFactory, swapped: bool, padding: int, length: int
) -> None:
    path = tmp_path_factory.mktemp("onnx") / "a.onnx"
    location = b"../" + b"x" * length
    path.write_bytes(onnx_with_array_in(location, swapped=swapped, padding=padding))
    with pytest.raises(EncoderError, match="outside its own folder: refused"):
        content_digest(path)


def test_an_external_array_with_an_impossible_file_name_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(onnx_with_array_in(b"da\0ta"))
    with pytest.raises(EncoderError, match="null byte"):
        content_digest(path)


@pytest.mark.parametrize("swapped", [False, True])
def test_an_external_array_affects_the_fingerprint_in_any_encoding(
    tmp_path: Path, swapped: bool
) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(onnx_with_array_in(b"data", swapped=swapped))
    (tmp_path / "data").write_bytes(b"one")
    before = content_digest(path)
    (tmp_path / "data").write_bytes(b"two")
    assert content_digest(path) != before


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "data").symlink_to(tmp_path / "secret")
    path = tmp_path / "inner" / "a.onnx"
    path.write_bytes(onnx_with_array_in(b"data"))
    with pytest.raises(EncoderError, match="outside its own folder: refused"):
        content_digest(path)


@given(st.binary(max_size=300))
def test_any_bytes_named_onnx_have_a_digest_or_give_one_clear_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("onnx") / "a.onnx"
    path.write_bytes(content)
    try:
        assert len(content_digest(path)) == 64
    except EncoderError as error:
        assert "a.onnx" in str(error)  # noqa: PT017 - both outcomes are valid


# Cards -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("mean = " + "[" * 100_000, "is not valid TOML"),
        ("mean = " + "9" * 4000, "expected a number"),
        ("scale = " + "9" * 400, "expected a number"),
        ("size = 99999999999999999999", "no more than 16384"),
        ("layer = '" + "x" * 2**20 + "'", "larger than 1048576 bytes"),
        ("layer = '\xe9'".encode("latin-1"), "is not valid TOML"),
        ("size = 1\nsize = 2", "is not valid TOML"),
    ],
)
def test_a_hostile_card_is_one_clear_error(tmp_path: Path, card: str | bytes, message: str) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(card if isinstance(card, bytes) else card.encode())
    with pytest.raises(EncoderError, match=message):
        NetworkSettings.from_toml(path)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode()))
def test_any_bytes_give_a_card_or_one_clear_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("card") / "a.toml"
    path.write_bytes(content)
    try:
        NetworkSettings.from_toml(path)
    except EncoderError as error:
        assert "a.toml" in str(error)  # noqa: PT017 - both outcomes are valid


# Encoders: an attacker can also compute a valid digest --------------------------------------------

SMALL = Encoder(
    model="tiny",
    architecture="test.Tiny",
    weights="by hand",
    weights_sha256="0" * 64,
    preprocessing=Preprocessing(height=8, width=6, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0)),
    output="pool",
    dimension=3,
    precision="f32",
    graph=b"<net/>",
    constants=bytes(16),
    probes=bytes(36),
)
START = 8 + 32 + 8  # the start of the header, after mark, digest and length
BODY = SMALL.to_bytes()[START:]
HEADER, SECTIONS = BODY[: BODY.index(b"<net/>")], BODY[BODY.index(b"<net/>") :]


def sealed(header: bytes, sections: bytes = SECTIONS, length: int | None = None) -> bytes:
    body = struct.pack("<Q", len(header) if length is None else length) + header + sections
    return SMALL.to_bytes()[:8] + hashlib.sha256(body).digest() + body


def telling(**changed: Any) -> bytes:
    return sealed(json.dumps(json.loads(HEADER) | changed).encode())


def test_sealing_the_same_content_gives_the_same_bytes() -> None:
    assert Encoder.from_bytes(sealed(HEADER)) == SMALL
    assert Encoder.from_bytes(telling()) == SMALL


@pytest.mark.parametrize(
    "blob",
    [
        sealed(HEADER, length=2**63),
        sealed(HEADER, length=2**64 - 1),
        sealed(HEADER, length=len(HEADER) + len(SECTIONS) + 1),
        sealed(b'{"a": ' * 100_000),
        sealed(b"[" * 100_000),
        sealed(b'"text"'),
        sealed(b"5"),
        sealed(b"null"),
        sealed(b"[]"),
        sealed(HEADER.replace(b"tiny", b"tin\xff")),
        sealed(HEADER.replace(b'"model"', b'"model": "other", "model"')),
        telling(dimension=10**12),
        telling(dimension=-3),
        telling(dimension=3.0),
        telling(dimension=True),
        telling(dimension="3"),
        telling(dimension=2),
        telling(model=5),
        telling(output=None),
        telling(precision=["f32"]),
        telling(precision="f64"),
        telling(runtime="sh"),
        telling(graph="<net/>"),
        telling(more=1),
        telling(sections={"graph": 6, "constants": -6, "probes": 52}),
        telling(sections={"graph": 6, "constants": 10**18, "probes": 36}),
        telling(sections={"graph": 6.0, "constants": 16, "probes": 36}),
        telling(sections=[6, 16, 36]),
        telling(preprocessing=json.loads(HEADER)["preprocessing"] | {"height": 10**9}),
        telling(preprocessing=json.loads(HEADER)["preprocessing"] | {"std": [0, 1, 1]}),
        telling(preprocessing=5),
    ],
)
def test_an_impossible_header_is_one_clear_error(blob: bytes) -> None:
    with pytest.raises(EncoderError, match="x.encoder has a header that cannot be read: ."):
        Encoder.from_bytes(blob, "x.encoder")


@given(st.integers(0, len(HEADER) - 1), st.binary(max_size=3))
def test_any_changed_header_gives_an_encoder_or_one_clear_error(at: int, new: bytes) -> None:
    try:
        Encoder.from_bytes(sealed(HEADER[:at] + new + HEADER[at + 1 :]))
    except EncoderError as error:
        assert "header" in str(error)  # noqa: PT017 - both outcomes are valid


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
    st.sampled_from(sorted(json.loads(HEADER))),
)
def test_any_value_in_a_header_gives_an_encoder_or_one_clear_error(value: Any, key: str) -> None:
    try:
        Encoder.from_bytes(telling(**{key: value}))
    except EncoderError as error:
        assert "header" in str(error)  # noqa: PT017 - both outcomes are valid


def test_a_change_of_any_bit_or_of_the_length_is_detected() -> None:
    blob = SMALL.to_bytes()
    for at in range(len(blob)):
        changed = blob[:at] + bytes([blob[at] ^ 1 << at % 8]) + blob[at + 1 :]
        for bad in (changed, blob[:at]):
            with pytest.raises(EncoderError):
                Encoder.from_bytes(bad)


def test_a_graph_whose_shape_contradicts_its_encoder_is_refused() -> None:
    openvino = import_openvino()
    opset = openvino.opset13
    pixels = opset.parameter([1, 8, 6, 3], np.uint8, name="pixels")
    mean = opset.reduce_mean(opset.convert(pixels, "f32"), np.array([1, 2, 3]), keep_dims=False)
    model = openvino.Model([opset.unsqueeze(mean, np.array([1]))], [pixels])  # (1, 1), not (1, 3)
    graph, constants = serialized(model)
    fields = {
        field.name: getattr(SMALL, field.name) for field in SMALL.__dataclass_fields__.values()
    }
    wrong = Encoder(**fields | {"graph": graph, "constants": constants})
    with pytest.raises(EncoderError, match=r"expected one from \(1, 8, 6, 3\) to \(1, 3\)"):
        runtime_for(wrong)
