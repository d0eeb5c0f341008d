"""Finds the arrays of each layer of a network in a Keras weights file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pomona.building.keras.weight_files import Arrays, LayerArrays
from pomona.errors import EncoderError

__all__ = ["LayerShape", "layer_shapes", "match_weights"]

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
                f"{file} does not fit {model}: {_shown(layer)}, which the file does not contain"
            )
        shapes = [array.shape for array in candidate.arrays]
        if shapes != [shape for _, shape in layer.arrays]:
            raise EncoderError(
                f"{file} does not fit {model}: {_shown(layer)}, the file has {_shapes(shapes)}"
            )
        matched.append(candidate.arrays)
    for extra in by_key.values():
        shapes = [array.shape for array in extra.arrays]
        if _is_keras3(found) and not _HEAD.search(extra.key):
            reason = "which the network does not have"
        elif _takes_images(shapes):
            reason = (
                "which may precede the network: give the whole model instead of the network's name"
            )
        else:
            continue
        raise EncoderError(
            f"{file} does not fit {model}: it also holds layer {extra.name!r} with "
            f"{_shapes(shapes)}, {reason}"
        )
    return matched


def _places(needed: Sequence[LayerShape], found: Sequence[LayerArrays]) -> list[list[str]]:
    """Return the keys of all layers of a network, once for each copy of it in the file."""
    if not _is_keras3(found):
        return _by_names(needed, found)
    keys_in_file = {layer.key for layer in found}
    own = [layer.key for layer in needed]
    models = sorted(
        {key.removesuffix(own[0]) for key in keys_in_file if f"/{key}".endswith(f"/{own[0]}")}
    )
    places = [[f"{within}{key}" for key in own] for within in models]
    return [keys for keys in places if keys_in_file.issuperset(keys)]


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
    needed_names = _counted([layer.name for layer in needed])
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
            found_by_name = dict(zip(_counted(names), layers, strict=True))
            if set(found_by_name) == set(needed_names):
                places.append([found_by_name[each].key for each in needed_names])
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


def _padded(keys: list[str], length: int) -> list[str]:
    return keys + [""] * (length - len(keys))


def _snake_case(class_name: str) -> str:
    # Keras' rule for the names of saved layers: Conv2D -> conv2d, ReLU -> re_lu.
    split = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", class_name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", split).lower()


def _shown(layer: LayerShape) -> str:
    arrays = ", ".join(f"{name} {shape}" for name, shape in layer.arrays)
    return f"layer {layer.name!r} needs {arrays}"


def _shapes(shapes: Iterable[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes))
