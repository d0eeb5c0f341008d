"""Networks in files -> encoders: the kind of file, and its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pomona.building.file_digest import content_digest
from pomona.building.folders.kinds import is_network_folder
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
    ".pt": "pytorch",
    ".pt2": "pytorch",
}
"""Kind of network by the file's extension; a folder is a TensorFlow SavedModel."""


def file_format(path: Path) -> str:
    """Return the kind of network in a file or folder, by its name.

    Raises:
        EncoderError: it does not exist, or its kind is unknown.
    """
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return "savedmodel"
        if is_network_folder(path):
            return "folder"
        raise EncoderError(
            f"{path} is a folder without a network: expected a SavedModel (saved_model.pb), "
            "or a folder of Hugging Face or timm (config.json), OpenCLIP (open_clip_config.json) "
            "or Immich (visual/model.onnx)"
        )
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
            f"{path} has an unknown kind: expected a network's name ('pomona models' lists them), "
            f"a file that ends in {', '.join(FORMATS)}, or a TensorFlow SavedModel folder"
        )
    if kind != "onnx" and not path.suffix.islower():
        raise EncoderError(
            f"{path} ends in {path.suffix}, but the library that reads it only knows "
            f"{path.suffix.lower()}: rename it"
        )
    return kind


def build(
    path: Path, settings: NetworkSettings, *, trust: bool = False, runtime: str = "openvino"
) -> Encoder:
    """Build an encoder from a network in a file.

    Args:
        path: the file, or a SavedModel's folder.
        settings: settings from the caller and from the card.
        trust: run code in the file, such as a Lambda layer.
        runtime: `openvino`, or `onnxruntime` for an ONNX file or a folder that has one.

    Raises:
        EncoderError: it cannot be read; the network does not return one vector for an image; or its
            preprocessing is not specified.
    """
    from pomona.building.folders import build as folders
    from pomona.building.folders.text import with_text_tower
    from pomona.building.graph import onnx_files, openvino_files
    from pomona.building.keras import model_files
    from pomona.building.torch import from_files

    if file_format(path) == "folder":
        encoder = folders.build(path, settings, runtime, trust=trust)
        return with_text_tower(encoder, path, settings, trust=trust)
    settings.check_unused(f"{path}, which has no text tower", "logit_scale", "logit_bias")
    if runtime == "onnxruntime":
        if file_format(path) != "onnx":
            raise EncoderError(
                "`runtime` onnxruntime requires an .onnx file, or a folder with one, of Hugging "
                f"Face or Immich, got {path}"
            )
        return onnx_files.build(path, settings)
    if file_format(path) == "pytorch":
        network = from_files.read(path, settings, trust=trust)
        known = settings.over(NetworkSettings(layout="NCHW"))
        return openvino_files.encoder_of(network, path, known, content_digest(path))
    if file_format(path) == "keras":
        return model_files.build(path, settings, trust)
    return openvino_files.build(path, settings)


def describe(
    path: Path, settings: NetworkSettings | None = None, *, trust: bool = False
) -> dict[str, Any]:
    """Return layers, output shapes (without the batch) and parameter counts of a network in a file.

    Args:
        path: the file, or a folder.
        settings: settings from the card: TorchScript needs a size.
        trust: run code in the file.

    Raises:
        EncoderError: it cannot be read.
    """
    from pomona.building.folders import build as folders
    from pomona.building.graph import openvino_files
    from pomona.building.keras import model_files
    from pomona.building.torch import from_files

    if file_format(path) == "keras":
        return model_files.describe(path, trust)
    if file_format(path) == "folder":
        return folders.describe(path, trust=trust)
    if file_format(path) == "pytorch":
        return openvino_files.describe_graph(
            from_files.read(path, settings or NetworkSettings(), trust=trust)
        )
    return openvino_files.describe(path)


def with_card(path: Path, settings: NetworkSettings) -> NetworkSettings:
    """Return settings, with the values of the card next to a file in place of None.

    Raises:
        EncoderError: the card cannot be read, or could be that of another network.
    """
    card = _card_beside(path)
    return settings if card is None else settings.over(NetworkSettings.from_toml(card))


def cards_beside(path: Path) -> list[Path]:
    """Return the possible cards of `fruit.onnx`: `fruit.onnx.toml`, and else `fruit.toml`."""
    own = path.with_name(f"{path.name}.toml")
    return [own] if path.is_dir() else [own, path.with_suffix(".toml")]


def _card_beside(path: Path) -> Path | None:
    """Find the card of a network, if it has one.

    Raises:
        EncoderError: the card may be that of another network in the folder.
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
            f"the card {card} can be for {path.name} or for "
            f"{', '.join(other.name for other in others)}, which may take different input: rename "
            f"it to {file.name}.toml if it is for {file.name}"
        )
    return card
