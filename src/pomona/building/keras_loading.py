"""Reads whole Keras models from files, after looking for code in them."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pomona.building.keras2 import brought_up, modernized
from pomona.building.keras_backend import import_keras
from pomona.errors import EncoderError

__all__ = ["load_model", "objects_in", "read_config"]

_LARGEST_JSON = 256 * 2**20  # bytes; NASNetLarge's is 1.5 MB


def load_model(path: Path, *, trust: bool) -> Any:
    """Load a model with its weights.

    Args:
        path: `.keras` or `.h5`, of Keras 2 or 3.
        trust: run code that the file holds, such as a Lambda layer's.

    Raises:
        EncoderError: it cannot be read, holds code, or needs layers that Keras does not have.
    """
    keras = import_keras()
    keras.backend.clear_session()
    config, version = read_config(path)
    if version.startswith("2."):
        config = modernized(config)
    if not trust:
        _refuse_code(path, config)
    try:
        with tempfile.TemporaryDirectory(prefix="pomona-") as folder:
            file = brought_up(path, config, Path(folder)) if version.startswith("2.") else path
            network = keras.saving.load_model(file, compile=False, safe_mode=not trust)
    except Exception as error:  # Keras raises what it meets: zip, HDF5, JSON, its own
        raise EncoderError(f"Keras cannot read {path}: {_one_line(error)}") from error
    if not isinstance(network, keras.Model) or not network.inputs:
        raise EncoderError(f"{path} holds a {type(network).__name__}, expected a built Keras model")
    return network


def read_config(path: Path) -> tuple[dict[str, Any], str]:
    """The model's configuration as the file has it, and the version of Keras that wrote it.

    Raises:
        EncoderError: the file cannot be read, or is no model's.
    """
    import h5py

    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if archive.getinfo("config.json").file_size > _LARGEST_JSON:
                    raise EncoderError(f"{path} has a config.json of absurd size: refused")
                told = json.loads(archive.read("config.json"))
                version = json.loads(archive.read("metadata.json"))["keras_version"]
        else:
            with h5py.File(path, "r") as file:
                if "model_config" not in file.attrs:
                    raise EncoderError(
                        f"{path} holds weights without their network: name the network, as in "
                        f"'mobilenet_v2' with --weights {path.name}"
                    )
                told = json.loads(file.attrs["model_config"])
                version = _text(file.attrs.get("keras_version", "2.0"))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise EncoderError(
            f"cannot read {path}: {_one_line(error)}; expected a model that Keras saved whole, "
            ".keras or .h5: is the file whole?"
        ) from error
    if not isinstance(told, dict):
        raise EncoderError(f"{path} has a configuration that is no Keras model's")
    return told, str(version)


def _refuse_code(path: Path, config: dict[str, Any]) -> None:
    """Refuse what would run code from the file, before anything reads it for good."""
    for part in objects_in(config):
        kind, module = part["class_name"], part.get("module")
        if kind in ("Lambda", "__lambda__"):
            name = part.get("config", {}).get("name", kind) if kind == "Lambda" else "a function"
            raise EncoderError(
                f"{path} holds a Lambda layer ({name}), which is code and would run here: add "
                "--trust if you know where the file comes from, or save the model without it"
            )
        package = part.get("registered_name")
        custom = isinstance(package, str) and ">" in package and not package.startswith("keras")
        foreign = isinstance(module, str) and module.split(".")[0] not in ("keras", "builtins")
        if custom or foreign:
            raise EncoderError(
                f"{path} uses {kind!r} of {module or package}, which Keras does not have: export "
                "the model as ONNX or as a TensorFlow SavedModel, which need no code of yours"
            )


def objects_in(config: Any) -> Iterator[dict[str, Any]]:
    """Every object that a configuration asks Keras to make, nested ones too."""
    waiting = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if isinstance(part.get("class_name"), str):
                yield part
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _one_line(error: BaseException) -> str:
    """The innermost of Keras' reasons, which stand one within the other."""
    reason = str(error).rpartition("Exception encountered: ")[2]
    return " ".join(reason.split())[:240]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
