"""Files of Keras 2 -> files that Keras 3 reads: the same weights, the configuration brought up."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

__all__ = ["brought_up", "is_archive", "modernized"]

_MODELS = {
    "Functional": "keras.src.models.functional",
    "Model": "keras.src.models.functional",
    "Sequential": "keras",
}


def is_archive(path: Path) -> bool:
    """Whether a model's file is read as a ZIP archive, or else as HDF5.

    Keras goes by the name, so what looks for code in the file must, too: a file can be both.
    """
    return path.suffix == ".keras"


def brought_up(path: Path, config: dict[str, Any], folder: Path) -> Path:
    """Write a copy of a model's file with another configuration.

    Args:
        path: a `.keras` or `.h5` file.
        config: the model's configuration.
        folder: where the copy goes.

    Returns:
        The copy's path.
    """
    copy = folder / f"model{path.suffix}"
    text = json.dumps(config)
    if not is_archive(path):
        import h5py

        shutil.copyfile(path, copy)
        with h5py.File(copy, "r+") as file:
            file.attrs["model_config"] = text
        return copy
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(copy, "w") as after:
        after.writestr("metadata.json", before.read("metadata.json"))
        after.writestr("config.json", text)
        with (
            before.open("model.weights.h5") as weights,
            after.open("model.weights.h5", "w", force_zip64=True) as there,
        ):
            shutil.copyfileobj(weights, there)
    return copy


def modernized(part: Any) -> Any:
    """A configuration of Keras 2 as Keras 3 would have it, as far as inference goes."""
    if isinstance(part, list):
        return [modernized(each) for each in part]
    if not isinstance(part, dict):
        return part
    part = {key: modernized(value) for key, value in part.items()}
    kind, config = part.get("class_name"), part.get("config")
    if not isinstance(kind, str) or not isinstance(config, dict):
        return part
    if kind in _MODELS:
        part |= {"module": _MODELS[kind], "registered_name": None} if "module" in part else {}
        for ends in ("input_layers", "output_layers"):
            if ends in config and len(config[ends]) == 1:
                (config[ends],) = config[ends]  # one tensor, not a list of one
    elif kind == "InputLayer" and "batch_input_shape" in config:
        config["batch_shape"] = config.pop("batch_input_shape")
    elif kind == "BatchNormalization" and isinstance(config.get("axis"), list):
        (config["axis"],) = config["axis"]
    elif kind == "DepthwiseConv2D":
        config.pop("groups", None)  # always 1; Keras 3 does not know it
    elif kind.startswith("Random") and kind != "RandomCrop":
        # Augmentation, of which Keras 3 has other arguments, or which it does not have at all.
        part |= {"class_name": "Identity", "config": {"name": config.get("name")}}
    for old in ("batch_input_shape", "ragged", "sparse"):
        config.pop(old, None)
    return part
