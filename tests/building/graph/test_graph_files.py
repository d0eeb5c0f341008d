"""Encoders from SavedModel, TensorFlow Lite and OpenVINO files, and files that are refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import pomona
import tables
from network_files import FILES, NO_SETTINGS, SCALED, VECTORS, assert_gives, encoder_from
from pomona.building import build
from pomona.building.network_settings import NetworkSettings
from pomona.cli.main import main
from pomona.errors import EncoderError


@pytest.mark.parametrize("file", ["transfer.keras", "bare.tflite"])
def test_the_error_for_an_unknown_layer_suggests_similar_names(file: str) -> None:
    with pytest.raises(EncoderError, match="has no layer 'hiddn'"):
        encoder_from(FILES / file, NetworkSettings(resize_mode="squash", mean=1.0, layer="hiddn"))
    with pytest.raises(EncoderError, match="did you mean hidden"):
        encoder_from(FILES / "transfer.keras", NetworkSettings(layer="hiddn"))


@pytest.mark.parametrize("file", ["bare.keras", "bare.tflite", "bare_saved"])
def test_unknown_preprocessing_must_be_specified(file: str) -> None:
    with pytest.raises(EncoderError, match=r"give .*`scale`, `mean` and `std` .* bare.*\.toml"):
        encoder_from(FILES / file)


def test_the_fingerprint_does_not_depend_on_names_or_folders(tmp_path: Path) -> None:
    for file, settings in (("transfer.keras", NO_SETTINGS), ("bare.tflite", SCALED)):
        other = tmp_path / f"other{Path(file).suffix}"
        shutil.copy(FILES / file, other)
        assert (
            encoder_from(other, settings).fingerprint
            == encoder_from(FILES / file, settings).fingerprint
            != encoder_from(other, NetworkSettings(resize_mode="squash", mean=100.0)).fingerprint
        )


def test_a_folder_name_does_not_determine_its_format(tmp_path: Path) -> None:
    shutil.copytree(FILES / "bare_saved", tmp_path / "fruit.onnx")
    named, other = (
        encoder_from(tmp_path / "fruit.onnx", SCALED),
        encoder_from(FILES / "bare_saved", SCALED),
    )
    assert named.fingerprint == other.fingerprint


def test_a_name_that_is_not_utf8_is_escaped(
    tmp_path: Path, pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(os.fsdecode(bytes(tmp_path / "fruit") + b"\xff.tflite"))
    shutil.copy(FILES / "bare.tflite", path)
    with caplog.at_level("INFO", "pomona"):
        encoder = build.build_encoder(path, settings=SCALED)
    assert rf"building {tmp_path}/fruit\xff.tflite (the first time only)" in caplog.messages
    assert encoder.weights == r"fruit\xff.tflite"
    pomona.extract(
        pictures, tmp_path / "table", encoder=encoder, engine=pomona.LocalEngine(workers=1)
    )
    assert tables.read(tmp_path / "table").num_rows == 14


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    import openvino

    network = openvino.Core().read_model(FILES / "bare.tflite")
    openvino.serialize(network, tmp_path / "fruit.xml")
    (tmp_path / "fruit.bin").unlink()
    with pytest.raises(EncoderError, match="cannot read .*fruit.bin: No such file"):
        build.build_encoder(tmp_path / "fruit.xml", settings=SCALED)


def test_a_suffix_unknown_to_openvino_is_refused_and_the_known_one_is_suggested(
    tmp_path: Path,
) -> None:
    shutil.copy(FILES / "bare.tflite", tmp_path / "FRUIT.TFLITE")
    with pytest.raises(EncoderError, match="knows .tflite: rename it"):
        encoder_from(tmp_path / "FRUIT.TFLITE", SCALED)


def test_an_input_beyond_the_limit_of_encoders_is_refused() -> None:
    with pytest.raises(EncoderError, match="its input is 4100 x 4100 pixels, expected no more"):
        encoder_from(FILES / "bare.tflite", SCALED.over(NetworkSettings(size=4100)))


def test_an_encoder_does_not_overwrite_a_file_of_its_network(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import openvino

    network = openvino.Core().read_model(FILES / "bare.tflite")
    openvino.serialize(network, tmp_path / "fruit.xml")
    (tmp_path / "fruit.toml").write_text("mean = 127.5\nstd = 127.5\n")
    shutil.copytree(FILES / "bare_saved", tmp_path / "saved")
    parts = {"fruit.xml": ("fruit.xml", "fruit.bin", "fruit.toml"), "saved": ("saved_model.pb",)}
    for network_file, names in parts.items():
        for name in names:
            part = tmp_path / name if network_file == "fruit.xml" else tmp_path / "saved" / name
            before = part.read_bytes()
            with pytest.raises(SystemExit) as stopped:
                main(["encoder", "build", str(tmp_path / network_file), "-o", str(part)])
            assert stopped.value.code == 2
            assert (
                f"{part} would replace a file of {tmp_path / network_file}"
                in capfd.readouterr().err
            )
            assert part.read_bytes() == before


def test_a_changed_savedmodel_gives_a_different_encoder(tmp_path: Path) -> None:
    shutil.copytree(FILES / "bare_saved", tmp_path / "saved")
    before = encoder_from(tmp_path / "saved", SCALED)
    (data,) = (tmp_path / "saved" / "variables").glob("*.data-*")
    content = bytearray(data.read_bytes())
    content[2000:2004] = np.float32(0.25).tobytes()
    data.write_bytes(content)
    assert encoder_from(tmp_path / "saved", SCALED).fingerprint != before.fingerprint


def test_the_openvino_format_is_read(tmp_path: Path) -> None:
    import openvino

    network = openvino.Core().read_model(FILES / "bare.tflite")
    openvino.serialize(network, tmp_path / "fruit.xml")
    assert_gives(encoder_from(tmp_path / "fruit.xml", SCALED), VECTORS["backbone"])


@pytest.mark.parametrize("file", ["transfer.keras", "bare.tflite"])
def test_a_layout_that_does_not_match_the_input_is_refused(file: str) -> None:
    with pytest.raises(EncoderError, match=r"input of shape .*32, 32, 3.*, which is not NCHW"):
        encoder_from(FILES / file, NetworkSettings(resize_mode="squash", layout="NCHW", scale=1))


@pytest.mark.parametrize(
    "file", ["transfer.keras", "transfer.h5", "keras2.h5", "bare.tflite", "bare_saved"]
)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_one_clear_error(tmp_path: Path, file: str, share: float) -> None:
    whole = FILES / file
    path = tmp_path / file
    if whole.is_dir():
        shutil.copytree(whole, path)
        path /= "saved_model.pb"
        whole /= "saved_model.pb"
    content = whole.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(EncoderError) as caught:
        encoder_from(tmp_path / file, SCALED)
    assert "\n" not in str(caught.value)
    assert file in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fruit.onnx", "does not exist"),
        ("", "is a folder without a network: expected a SavedModel"),
        ("fruit.ckpt", "has an unknown kind: expected .*keras, .h5, .* or a TensorFlow SavedModel"),
        ("fruit.weights.h5", "holds weights without their network"),
    ],
)
def test_a_file_that_is_not_a_network_is_refused(tmp_path: Path, name: str, message: str) -> None:
    if name not in ("", "fruit.onnx"):
        (tmp_path / name).touch()
    with pytest.raises(EncoderError, match=message):
        build.build_encoder(tmp_path / name)


def test_weights_for_a_whole_network_are_refused() -> None:
    with pytest.raises(EncoderError, match="contains its own weights"):
        build.build_encoder(FILES / "transfer.keras", "imagenet")


def test_a_whole_network_given_as_weights_gets_advice() -> None:
    with pytest.raises(EncoderError, match="instead of the network's name"):
        build.build_encoder("mobilenet_v2", str(FILES / "transfer.keras"))


@pytest.mark.parametrize("version", [2, 7, 9])
@pytest.mark.parametrize("start", ["", '<?xml version="1.0" ?>\n', "<!-- made by hand -->\n"])
def test_ir_before_version_10_is_refused_with_a_remedy(
    tmp_path: Path, version: int, start: str
) -> None:
    path = tmp_path / "face.xml"
    path.write_text(f'{start}<net name="face" version="{version}" batch="1"><layers/></net>')
    (tmp_path / "face.bin").write_bytes(b"")
    with pytest.raises(EncoderError, match=rf"IR of version {version}, .*10.*convert .* again"):
        encoder_from(path, SCALED)
