"""Reads whole Keras models from files after checking them for code."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pomona.building.keras.backend import import_keras
from pomona.building.keras.config import objects_in, readable
from pomona.building.keras.keras2 import NETWORK_LAYERS
from pomona.building.keras.renumber import renumber
from pomona.building.keras.restore import restore
from pomona.building.untrusted_files import check_archive, check_hdf5, largest_content
from pomona.errors import EncoderError
from pomona.messages import one_line

__all__ = ["load_model", "read_config"]

_LARGEST_JSON = 16 * 2**20  # bytes; NASNetLarge's is 1.5 MB

# Parts of Keras whose classes and functions a configuration may use. `utils`, `saving` and `config`
# are omitted on purpose: versions of Keras called functions from there (CVE-2025-8747,
# CVE-2025-9906), and the next such vulnerability should find nothing to call.
_MODULES = (
    *("activations", "constraints", "dtype_policies", "initializers", "layers", "losses"),
    *("metrics", "models", "ops", "optimizers", "quantizers", "regularizers"),
)
_MODELS = ("Functional", "Model", "Sequential")  # of `keras.models`, which also loads files
# Layers that run or read anything outside the configuration: programs, pickles, other files.
_OUTSIDE = (
    *("TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"),
    *("StringLookup", "IntegerLookup", "TextVectorization"),
)


def load_model(path: Path, *, trust: bool) -> Any:
    """Load a model with its weights.

    Args:
        path: `.keras` or `.h5`, of Keras 2 or 3.
        trust: run code in the file, such as a Lambda layer.

    Raises:
        EncoderError: it cannot be read, contains code, or needs layers that Keras does not have.
    """
    keras = import_keras()
    keras.backend.clear_session()
    stored, version = read_config(path)
    with _readable(path):
        config = readable(stored, version)
    if not trust:
        _refuse_code(path, config)
        _refuse_outside(path)
    try:
        with tempfile.TemporaryDirectory(prefix="pomona-") as folder:
            file = _copy(path, config, Path(folder))
            network = keras.saving.load_model(file, compile=False, safe_mode=not trust)
    except Exception as error:  # Keras raises errors of zip, HDF5, JSON and its own
        raise EncoderError(f"Keras cannot read {path}: {_one_line(error)}") from error
    if not isinstance(network, keras.Model) or not network.inputs:
        raise EncoderError(f"{path} holds a {type(network).__name__}, expected a built Keras model")
    with _readable(path):
        restore(network, stored, version)
    return network


def read_config(path: Path) -> tuple[dict[str, Any], str]:
    """Return the model's configuration in the file, and the version of Keras that wrote it.

    Raises:
        EncoderError: the file cannot be read, or does not contain a model.
    """
    import h5py

    with _readable(path):
        if _is_archive(path):
            with zipfile.ZipFile(path) as archive:
                for name in ("config.json", "metadata.json"):
                    if archive.getinfo(name).file_size > _LARGEST_JSON:
                        raise EncoderError(f"{path} has a {name} that is too large: refused")
                config = json.loads(archive.read("config.json"))
                version = json.loads(archive.read("metadata.json"))["keras_version"]
        else:
            with h5py.File(path, "r") as file:
                if "model_config" not in file.attrs:
                    raise EncoderError(
                        f"{path} holds weights without their network: name the network, as in "
                        f"'mobilenet_v2' with `weights` {path.name}"
                    )
                config = json.loads(file.attrs["model_config"])
                version = _text(file.attrs.get("keras_version", "2.0"))
    if not isinstance(config, dict):
        raise EncoderError(f"{path} has a configuration that is not a Keras model's")
    return config, str(version)


def _is_archive(path: Path) -> bool:
    """Return whether a model's file is read as a ZIP archive, and not as HDF5.

    Keras decides by the name. A file can be both, so the check for code has to decide like Keras.
    """
    return path.suffix == ".keras"


def _copy(path: Path, config: dict[str, Any], folder: Path) -> Path:
    """Write a copy of a model's file into a folder, with another configuration."""
    copy = folder / f"model{path.suffix}"
    text = json.dumps(config)
    if not _is_archive(path):
        import h5py

        shutil.copyfile(path, copy)
        with h5py.File(copy, "r+") as file:
            file.attrs["model_config"] = text
        return copy
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(copy, "w") as after:
        after.writestr("metadata.json", before.read("metadata.json"))
        after.writestr("config.json", text)
        weights = folder / "model.weights.h5"
        with before.open(weights.name) as stored, weights.open("wb") as target:
            shutil.copyfileobj(stored, target)
        renumber(weights)
        after.write(weights, weights.name)
    return copy


def _refuse_code(path: Path, config: dict[str, Any]) -> None:
    """Refuse a configuration that would run code from the file, before Keras reads it."""
    for part in objects_in(config):
        kind, module = part["class_name"], part.get("module")
        if kind in ("Lambda", "__lambda__"):
            settings = part.get("config")
            name = settings.get("name", kind) if isinstance(settings, dict) else "a function"
            raise EncoderError(
                f"{path} holds a Lambda layer ({name}), which is code and would run here: add "
                "`trust` if you know where the file comes from, or save the model without it"
            )
        if kind in ("TFOpLambda", "SlicingOpLambda"):
            function = part.get("config", {}).get("function", "a function")
            raise EncoderError(
                f"{path} computes with tf.{function}, which Pomona cannot convert: export the "
                "model as a TensorFlow SavedModel or as ONNX"
            )
        package = part.get("registered_name")
        custom = isinstance(package, str) and ">" in package and not package.startswith("keras")
        if kind in _OUTSIDE:
            raise EncoderError(
                f"{path} has a layer {kind!r}, which accesses things outside the file: save the "
                "model without it, or add `trust` if you know where the file comes from"
            )
        if custom or not _is_of_keras(kind, module, part.get("config")):
            raise EncoderError(
                f"{path} uses {kind!r} of {module or package}, which Keras does not have: export "
                "the model as ONNX or as a TensorFlow SavedModel, which need no custom code"
            )


def _is_of_keras(kind: str, module: Any, config: Any) -> bool:
    """Return whether a configuration may name this class or function of this module.

    Keras looks up `module.name`, so a dot in the name would select another module.
    """
    name = config if kind == "function" and isinstance(config, str) else kind
    if "." in name or not isinstance(module, str | None):
        return False
    if module in (None, "builtins"):
        return True
    if module == "keras":
        return kind != "function"
    if module in NETWORK_LAYERS.values():
        return NETWORK_LAYERS.get(kind) == module
    part = module.removeprefix("keras.src.").removeprefix("keras.").partition(".")[0]
    if part == "models" and name not in _MODELS:
        return False
    return module.startswith("keras.") and part in _MODULES


def _refuse_outside(path: Path) -> None:
    """Refuse a file with links to other files, or one that expands to an extreme size."""
    import h5py

    with _readable(path):
        if not _is_archive(path):
            with h5py.File(path, "r") as file:
                check_hdf5(file, path, largest_content(path))
            return
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryFile("w+b") as weights:
            check_archive(archive, path)
            with archive.open("model.weights.h5") as stored:
                shutil.copyfileobj(stored, weights)
            with h5py.File(weights, "r") as file:
                check_hdf5(file, path, largest_content(path))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Convert all exceptions of libraries about a damaged file into one error."""
    try:
        yield
    except (
        *(OSError, LookupError, AttributeError, TypeError, ValueError, RuntimeError, MemoryError),
        *(zipfile.BadZipFile, zlib.error),
    ) as error:
        raise EncoderError(
            f"cannot read {path}: {_one_line(error)}; expected a whole model that Keras saved, "
            ".keras or .h5: is the file complete?"
        ) from error


def _one_line(error: BaseException) -> str:
    """Return the innermost of Keras' nested reasons."""
    return one_line(str(error).rpartition("Exception encountered: ")[2], 240)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
