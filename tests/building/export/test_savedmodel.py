"""Which encoders cannot become a SavedModel. `tests/servers` has those that can."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import pomona
from command_line import run
from network_files import FILES, SCALED, encoder_from
from pomona import extras
from pomona.encoder.encoder import Encoder


@pytest.fixture(autouse=True)
def without_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    found = extras.is_installed
    monkeypatch.setattr(extras, "is_installed", lambda name: name != "tensorflow" and found(name))


def test_the_message_has_the_command_that_installs_tensorflow(
    capfd: pytest.CaptureFixture[str], encoder_file: Path, tmp_path: Path
) -> None:
    code, _, err = run(
        capfd, "encoder", "export", encoder_file, "--to", "savedmodel", tmp_path / "served"
    )
    assert code == 2
    assert "--to savedmodel needs TensorFlow: " in err
    assert ".[savedmodel]" in err
    assert not [*tmp_path.iterdir()]


def test_a_network_that_keras_does_not_build_is_refused(tmp_path: Path) -> None:
    encoder = encoder_from(FILES / "bare.tflite", SCALED)
    with pytest.raises(pomona.EncoderError, match="not a network of Keras.*triton or kserve"):
        pomona.export_encoder(encoder, tmp_path / "served", to="savedmodel")
    assert not [*tmp_path.iterdir()]


def test_efficientnet_lite_is_no_network_of_keras(tmp_path: Path) -> None:
    encoder = pomona.build_encoder("efficientnet_lite0", "untrained:1")
    with pytest.raises(pomona.EncoderError, match="not a network of Keras"):
        pomona.export_encoder(encoder, tmp_path / "served", to="savedmodel")


def test_a_lower_precision_is_refused(encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(pomona.EncoderError, match="in bf16, and TensorFlow would compute in f32"):
        pomona.export_encoder(
            replace(encoder, precision="bf16"), tmp_path / "served", to="savedmodel"
        )


@pytest.mark.parametrize("file", ["transfer.keras", "transfer.h5"])
def test_a_network_from_a_file_needs_the_file(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, file: str
) -> None:
    encoder_from(FILES / file).save(tmp_path / "fruit.encoder")
    code, _, err = run(
        capfd,
        *("encoder", "export", tmp_path / "fruit.encoder"),
        *("--to", "savedmodel", tmp_path / "served"),
    )
    assert code == 2
    assert f"was built from the file {file}, which the export needs: give it as --built-from" in err


def test_the_file_is_for_savedmodel_only(encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(pomona.EncoderError, match="`built_from` is for `to` savedmodel, not for"):
        pomona.export_encoder(encoder, tmp_path / "served", to="kserve", built_from="fruit.keras")
