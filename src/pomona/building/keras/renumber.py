"""Layers in a `.keras` file of Keras 2.12 to 2.15 -> the places where Keras 3 looks for them.

Keras 3 stores a layer at `layers/conv2d_1`: its class, and how many of that class precede it. Keras
2 stores it at `_layer_checkpoint_dependencies/conv2d_2`: it counts a layer with weights twice. In
both, the numbers follow the order of the layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["renumber"]

_KERAS_2 = ("_layer_checkpoint_dependencies", "_self_tracked_trackables")
_KERAS_3 = "layers"
_NUMBER = re.compile(r"(.+?)(?:_(\d{1,9}))?", re.DOTALL)
_PRIVATE = ("_query_dense", "_key_dense", "_value_dense", "_output_dense")  # of attention


def renumber(weights: Path) -> None:
    """Change the weights file of a `.keras` archive in place; one of Keras 3 stays as it is.

    Raises:
        OSError, KeyError, ValueError: it is damaged.
    """
    import h5py

    with h5py.File(weights, "r+") as file:
        for name in [name for name in file if "\\" in name]:  # written on Windows
            file.move(name, name.replace("\\", "/"))
        waiting: list[Any] = [file["/"]]
        seen: set[int] = set()  # the links in a trusted file can still be circular
        while waiting:
            group = waiting.pop()
            if (address := h5py.h5o.get_info(group.id).addr) in seen:
                continue
            seen.add(address)
            for name in _KERAS_2:
                if name in group and _KERAS_3 not in group:
                    group.move(name, _KERAS_3)
                    _close_up(group[_KERAS_3])
            for name in _PRIVATE:
                if name in group and name[1:] not in group:
                    group.move(name, name[1:])
            waiting += [each for each in group.values() if isinstance(each, h5py.Group)]


def _close_up(layers: Any) -> None:
    """Number the layers of each class without gaps: conv2d, conv2d_2, conv2d_4 -> 0, 1, 2."""
    for kind, numbers in _by_kind(layers).items():
        for place, number in enumerate(sorted(numbers)):  # a place is never above its number
            old, new = _name(kind, number), _name(kind, place)
            if old != new:
                layers.move(old, new)


def _by_kind(names: Iterable[str]) -> dict[str, list[int]]:
    kinds: dict[str, list[int]] = {}
    for name in names:
        if match := _NUMBER.fullmatch(name):
            kinds.setdefault(match[1], []).append(int(match[2] or 0))
    return kinds


def _name(kind: str, number: int) -> str:
    return f"{kind}_{number}" if number else kind
