"""Reading Keras weight files layer by layer, so that no layer keeps its random weights silently.

If the file has no group of a layer's name, Keras' own `load_weights` leaves the layer at its random
start with a warning. Features of such a network look plausible and are wrong. Here the file must
have arrays of the right shapes for all layers, or an error names the layer. Two layouts are read,
both HDF5 and as data only:

- Keras 3, `.weights.h5`: `layers/<class name in snake case>_<count>/vars/<index>`;
- Keras 1 and 2, `.h5`, weights alone or within a whole model: groups in the order of the
  attribute `layer_names`, arrays in the order of `weight_names`.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.building.untrusted_files import check_hdf5, largest_content
from pomona.errors import EncoderError
from pomona.messages import one_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "LayerArrays",
    "LayerShape",
    "layer_shapes",
    "match_weights",
    "read_weights",
]

Arrays = list["NDArray[np.float32]"]

_HEAD = re.compile(r"layers/(dense|conv2d|batch_normalization|layer_normalization|p_re_lu)(_\d+)?$")
"""Classes of layers in a head. Keras continues the numbers of the network's layers for them: at any
other place, such a layer would have changed the numbers of the network's own layers."""


_NUMBER = re.compile(r"(.*?)(?:_(\d{1,9}))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class LayerShape:
    """The arrays that a layer of the network needs.

    Attributes:
        key: its place in a Keras 3 file: class and count, and those of the layers around it.
        name: the name of the layer.
        arrays: names and shapes.
    """

    key: str
    name: str
    arrays: tuple[tuple[str, tuple[int, ...]], ...]


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


def match_weights(
    needed: Sequence[LayerShape], found: Sequence[LayerArrays], file: str, model: str
) -> list[Arrays]:
    """Return the arrays of all layers of the network from the file.

    The file may contain the network as part of a larger one, and a head after it: a classifier of
    any number of layers, as from transfer learning.

    Args:
        needed: the network's layers that have weights, in the network's order.
        found: the result of `read_weights`.
        file: the file's name, for errors.
        model: the network's name, for errors.

    Returns:
        One list of arrays for each of `needed`.

    Raises:
        EncoderError: a layer is missing or has other shapes, or the file has another layer that
            does not belong to a head.
    """
    by_key = {layer.key: layer for layer in found}
    places = _places(needed, found)
    if len(places) > 1:
        raise EncoderError(
            f"{file} contains {model} {len(places)} times: give the whole model instead of the "
            "network's name, and choose a layer of one of them with `layer`"
        )
    keys = places[0] if places else _first_places(needed, found)
    matched = []
    for layer, key in zip(needed, _padded(keys, len(needed)), strict=True):
        candidate = by_key.pop(key, None)
        if candidate is None:
            raise EncoderError(
                f"{file} does not fit {model}: {_shown(layer)}, the file has nothing there"
            )
        shapes = [array.shape for array in candidate.arrays]
        if shapes != [shape for _, shape in layer.arrays]:
            raise EncoderError(
                f"{file} does not fit {model}: {_shown(layer)}, "
                f"the file has {_shapes(shapes)} there"
            )
        matched.append(candidate.arrays)
    for extra in by_key.values():
        shapes = [array.shape for array in extra.arrays]
        if _is_keras3(found) and not _HEAD.search(extra.key):
            reason = "which the network does not have"
        elif _takes_images(shapes):
            reason = (
                "which may stand before the network: give the whole model in place of the "
                "network's name"
            )
        else:
            continue
        raise EncoderError(
            f"{file} does not fit {model}: it also holds layer {extra.name!r} with "
            f"{_shapes(shapes)}, {reason}"
        )
    return matched


def _places(needed: Sequence[LayerShape], found: Sequence[LayerArrays]) -> list[list[str]]:
    """Return the keys of all layers of a network, for each time that the file contains it."""
    if not _is_keras3(found):
        return _by_names(needed, found)
    there = {layer.key for layer in found}
    own = [layer.key for layer in needed]
    models = sorted({key.removesuffix(own[0]) for key in there if f"/{key}".endswith(f"/{own[0]}")})
    places = [[f"{within}{key}" for key in own] for within in models]
    return [keys for keys in places if there.issuperset(keys)]


def _first_places(needed: Sequence[LayerShape], found: Sequence[LayerArrays]) -> list[str]:
    """Return the keys that a network's layers would have in a file that lacks some of them."""
    if _is_keras3(found):
        return [layer.key for layer in needed]
    return [layer.key for layer in found][: len(needed)]


def _takes_images(shapes: Sequence[tuple[int, ...]]) -> bool:
    """Return whether a layer of a head's class can precede a network: it has three channels."""
    first = shapes[0]
    return (first[2:3] if len(first) == 4 else first[:1] if len(first) < 3 else first[-1:]) == (3,)


def _by_names(needed: Sequence[LayerShape], found: Sequence[LayerArrays]) -> list[list[str]]:
    """Return the keys of a network's layers in nested models, in a file of the older layout.

    The arrays of such a model are in one list. Arrays that training changes come first: those of
    frozen layers and of a Normalization come after all others. So layers are identified by their
    names, which end in numbers that Keras counted within a session: the order of the numbers is
    that of the network. In Keras 2, the names can contain "/", for which Keras 3 has "_".

    Returns:
        The keys, for each nested model that has exactly these layers.
    """
    wanted = _counted([layer.name for layer in needed])
    groups: dict[str, list[LayerArrays]] = {}
    for layer in found:
        group, slash, _ = layer.key.partition("/")
        if slash:
            groups.setdefault(group, []).append(layer)
    places = []
    for layers in groups.values():
        paths = [layer.name.partition("/")[2] for layer in layers]
        last, joined = [p.rpartition("/")[2] for p in paths], [p.replace("/", "_") for p in paths]
        for names in (last, joined):
            there = dict(zip(_counted(names), layers, strict=True))
            if set(there) == set(wanted):
                places.append([there[each].key for each in wanted])
                break
    return places


def _counted(names: Sequence[str]) -> list[tuple[str, int]]:
    """Return each name without its number, and how many of that kind have a smaller number."""
    apart = [_NUMBER.fullmatch(name) for name in names]
    parts = [(each[1], int(each[2] or 0)) for each in apart if each]
    kinds: dict[str, list[int]] = {}
    for kind, number in sorted(set(parts)):
        kinds.setdefault(kind, []).append(number)
    return [(kind, kinds[kind].index(number)) for kind, number in parts]


def layer_shapes(network: Any, within: str = "") -> Iterator[tuple[LayerShape, Any]]:
    """Yield the layers of a Keras model that have arrays themselves, also nested ones, in order.

    Yields:
        The arrays that the layer needs, and the layer.
    """
    counts: Counter[str] = Counter()
    for layer in network.layers:
        stem = _snake_case(type(layer).__name__)
        key = f"{within}layers/{stem}_{counts[stem]}" if counts[stem] else f"{within}layers/{stem}"
        counts[stem] += 1
        if getattr(layer, "layers", None):
            yield from layer_shapes(layer, f"{key}/")
        elif layer.weights:
            arrays = tuple((weight.name, tuple(weight.shape)) for weight in layer.weights)
            yield LayerShape(key, layer.name, arrays), layer


def _is_keras3(found: Sequence[LayerArrays]) -> bool:
    return found[0].key.startswith("layers/")


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
        inner: dict[str, Arrays] = {}  # a layer within a layer keeps its name in its weights' names
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


def _padded(keys: list[str], length: int) -> list[str]:
    return keys + [""] * (length - len(keys))


def _snake_case(class_name: str) -> str:
    # The rule that Keras names saved layers by: Conv2D -> conv2d, ReLU -> re_lu.
    split = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", class_name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", split).lower()


def _float32(dataset: Any) -> NDArray[np.float32]:
    if dataset.attrs.get("dtype") == "bfloat16":  # of a float32 the upper half, which HDF5 has not
        upper = np.asarray(dataset[()]).view("<u2").astype("<u4")
        return (upper << 16).view("<f4")
    return np.asarray(dataset[()], dtype=np.float32)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _shown(layer: LayerShape) -> str:
    wanted = ", ".join(f"{name} {shape}" for name, shape in layer.arrays)
    return f"layer {layer.name!r} needs {wanted}"


def _shapes(shapes: Iterable[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes))
