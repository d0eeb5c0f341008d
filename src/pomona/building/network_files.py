"""Networks in files -> encoders: which kind of file it is, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pomona.building.network_settings import NetworkSettings
from pomona.encoder.encoder import Encoder
from pomona.errors import EncoderError

__all__ = ["FORMATS", "build", "cards_beside", "describe", "file_format", "with_card"]

FORMATS = {
    ".keras": "keras",
    ".h5": "keras",
    ".hdf5": "keras",
    ".onnx": "onnx",
    ".tflite": "tflite",
    ".xml": "openvino",
}
"""Kind of network by the file's extension; a folder is a TensorFlow SavedModel."""


def file_format(path: Path) -> str:
    """Tell what kind of network a file or folder holds, by its name.

    Raises:
        EncoderError: it does not exist, or is of no kind that is known.
    """
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return "savedmodel"
        raise EncoderError(f"{path} is a folder, but no SavedModel: it has no saved_model.pb")
    if not path.exists():
        raise EncoderError(f"model file {path} does not exist")
    if path.name.endswith(".weights.h5"):
        raise EncoderError(
            f"{path} holds weights without their network: name the network, as in "
            f"'mobilenet_v2' with `weights` {path.name}"
        )
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise EncoderError(
            f"{path} is of no known kind: expected a network's name ('pomona models' lists them), "
            f"a file that ends in {', '.join(FORMATS)}, or a TensorFlow SavedModel folder"
        )
    if kind != "onnx" and not path.suffix.islower():
        raise EncoderError(
            f"{path} ends in {path.suffix}, and the library that reads it knows "
            f"{path.suffix.lower()} alone: call it so"
        )
    return kind


def build(
    path: Path, settings: NetworkSettings, *, trust: bool = False, runtime: str = "openvino"
) -> Encoder:
    """Build an encoder from a network in a file.

    Args:
        path: the file, or a SavedModel's folder.
        settings: what is said of it, in options and in its card.
        trust: run code that the file holds, such as a Lambda layer's.
        runtime: what will compute it: `openvino`, or `onnxruntime` for an ONNX file.

    Raises:
        EncoderError: it cannot be read, does not give one vector for an image, or not enough is
            said of it.
    """
    from pomona.building.graph import onnx_files, openvino_files
    from pomona.building.keras import model_files

    if runtime == "onnxruntime":
        if file_format(path) != "onnx":
            raise EncoderError(f"`runtime` onnxruntime is for .onnx files, which {path} is not")
        return onnx_files.build(path, settings)
    if file_format(path) == "keras":
        return model_files.build(path, settings, trust)
    return openvino_files.build(path, settings, trust)


def describe(path: Path, *, trust: bool = False) -> dict[str, Any]:
    """Layers, output shapes (without the batch) and parameter counts of a network in a file.

    Raises:
        EncoderError: it cannot be read.
    """
    from pomona.building.graph import openvino_files
    from pomona.building.keras import model_files

    if file_format(path) == "keras":
        return model_files.describe(path, trust)
    return openvino_files.describe(path, trust)


def with_card(path: Path, settings: NetworkSettings) -> NetworkSettings:
    """Settings over those in the card beside a file.

    Raises:
        EncoderError: the card cannot be read, or could be that of another network.
    """
    card = _card_beside(path)
    return settings if card is None else settings.over(NetworkSettings.from_toml(card))


def cards_beside(path: Path) -> list[Path]:
    """The places of a network's card: beside `fruit.onnx`, `fruit.onnx.toml`, else `fruit.toml`."""
    own = path.with_name(f"{path.name}.toml")
    return [own] if path.is_dir() else [own, path.with_suffix(".toml")]


def _card_beside(path: Path) -> Path | None:
    """Find the card of a network, if it has one.

    Raises:
        EncoderError: it may be that of a network beside it.
    """
    card = next((place for place in cards_beside(path) if place.is_file()), None)
    if card is None or (path.is_file() and card.name == f"{path.name}.toml"):
        return card
    named = card.with_suffix("")
    folders = [named] if (named / "saved_model.pb").is_file() else []
    files = [file for ending in FORMATS if (file := Path(f"{named}{ending}")).is_file()]
    without = [file for file in files if not Path(f"{file}.toml").is_file()]
    if others := [other for other in folders + without if other != path]:
        file = path if path.is_file() else others[0]
        raise EncoderError(
            f"the card {card} is beside {path.name} and "
            f"{', '.join(other.name for other in others)}, which can take different input: call it "
            f"{file.name}.toml if it is that of {file.name}"
        )
    return card
