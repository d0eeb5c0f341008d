"""Reading Keras weight files layer by layer, so that no layer keeps its random weights silently.

If the file has no group with a layer's name, Keras' own `load_weights` only warns, and the layer
keeps its random weights. Features of such a network look plausible and are wrong. Here the file
must have arrays of the right shapes for all layers, or an error names the layer. Two layouts are
read, both HDF5 and as data only:

- Keras 3, `.weights.h5`: `layers/<class name in snake case>_<count>/vars/<index>`;
- Keras 1 and 2, `.h5`, weights alone or within a whole model: groups in the order of the
  attribute `layer_names`, arrays in the order of `weight_names`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.building.untrusted_files import check_hdf5, largest_content
from pomona.errors import EncoderError
from pomona.messages import one_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Arrays", "LayerArrays", "read_weights"]

Arrays = list["NDArray[np.float32]"]


@dataclass(frozen=True, slots=True)
class LayerArrays:
    """The arrays of a layer in the file. `key` is its place, `name` the name of the layer."""

    key: str
    name: str
    arrays: Arrays


def read_weights(path: Path) -> list[LayerArrays]:
    """Read the layers of a Keras weights file that have arrays.

    Returns:
        The layers in the file's own order; for Keras 3 files the order is by class and count.

    Raises:
        EncoderError: the file is missing, is not HDF5, has no Keras weights, or has links to other
            files.
    """
    import h5py

    if not path.is_file():
        raise EncoderError(
            f"weights file {path} does not exist: give a Keras .h5 or .weights.h5 file, "
            "'imagenet' or 'untrained:SEED'"
        )
    try:
        with h5py.File(path, "r") as file:
            check_hdf5(file, path, largest_content(path))
            layers = _read_layers(file)
    except (
        *(OSError, AttributeError, KeyError, RuntimeError, ValueError, TypeError, MemoryError),
    ) as error:
        raise EncoderError(
            f"cannot read weights from {path}: {one_line(error)}; expected a Keras .h5 or "
            ".weights.h5 file"
        ) from error
    if not layers:
        raise EncoderError(f"{path} is HDF5, but has no Keras weights")
    return layers


def _read_layers(file: Any) -> list[LayerArrays]:
    if "layers" in file:
        return list(_read_keras3(file["layers"]))
    legacy = file.get("model_weights", file)
    return list(_read_legacy(legacy)) if _long_attribute(legacy, "layer_names") else []


def _read_keras3(layers: Any, within: str = "layers/") -> Iterator[LayerArrays]:
    for name, group in layers.items():
        if "layers" in group:  # a Sequential, or a model within a model
            yield from _read_keras3(group["layers"], f"{within}{name}/layers/")
        stored = group.get("vars", {})
        if arrays := [_float32(stored[str(i)]) for i in range(len(stored))]:
            yield LayerArrays(f"{within}{name}", _text(stored.attrs.get("name", name)), arrays)


def _read_legacy(group: Any) -> Iterator[LayerArrays]:
    for name in _long_attribute(group, "layer_names"):
        layer = group[name]
        inner: dict[str, Arrays] = {}  # a nested layer has its name in the names of its weights
        for weight in _long_attribute(layer, "weight_names"):
            inner.setdefault(weight.rpartition("/")[0], []).append(_float32(layer[weight]))
        for path, arrays in inner.items():
            key = f"{name}/{path}" if len(inner) > 1 else name
            yield LayerArrays(key, key, arrays)


def _long_attribute(group: Any, name: str) -> list[str]:
    """Return an attribute of names. Above HDF5's 64 kB, Keras splits it: `name0`, `name1`, ..."""
    if name in group.attrs:
        return list(map(_text, group.attrs[name]))
    parts = itertools.takewhile(
        lambda part: part in group.attrs, (f"{name}{number}" for number in itertools.count())
    )
    return [_text(each) for part in parts for each in group.attrs[part]]


def _float32(dataset: Any) -> NDArray[np.float32]:
    if dataset.attrs.get("dtype") == "bfloat16":  # 2 raw bytes: HDF5 has no such type
        upper = np.asarray(dataset[()]).view("<u2").astype("<u4")
        return (upper << 16).view("<f4")
    return np.asarray(dataset[()], dtype=np.float32)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
