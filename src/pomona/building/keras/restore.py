"""Restores settings in a loaded model that Keras loses or cannot express."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pomona.building.keras.backend import import_keras
from pomona.building.keras.config import objects_in
from pomona.building.keras.keras2 import fit_name

__all__ = ["restore"]


def restore(network: Any, config: dict[str, Any], version: str) -> None:
    """Change the layers of a loaded model to the settings in its file.

    Args:
        network: a `keras.Model`.
        config: its configuration in the file.
        version: version of the Keras that wrote it.
    """
    layers = {layer.name: layer for layer in _layers_of(network)}
    for part in objects_in(config):
        settings = part.get("config")
        if not isinstance(settings, dict):
            continue
        layer = layers.get(fit_name(str(part.get("name", settings.get("name")))))
        if layer is None:
            continue
        axes = settings.get("axis")
        # In an `.h5` file, Keras reads several axes of one layer as the default.
        if isinstance(axes, list) and len(axes) > 1 and hasattr(layer, "axis"):
            layer.axis = axes
        if str(settings.get("function")).endswith("l2_normalize") and not _has_axis(part):
            layer.axis = list(range(1, len(layer.input.shape)))  # all, of the one image
    if not version.startswith("3."):
        for layer in network._flatten_layers():
            _compute_as_keras2(layer)


def _layers_of(model: Any) -> Iterator[Any]:
    """Yield the layers of a model and of nested models, but not those within layers."""
    for layer in getattr(model, "layers", ()):
        yield layer
        yield from _layers_of(layer)


def _has_axis(part: dict[str, Any]) -> bool:
    """Return whether a TensorFlow function is called with an axis."""
    return any(keywords.get("axis") is not None for _, _, _, keywords in _entries(part))


def _entries(part: dict[str, Any]) -> list[Any]:
    nodes = part.get("inbound_nodes", [])
    return [node if isinstance(node[0], str) else node[0] for node in nodes]


def _compute_as_keras2(layer: Any) -> None:
    keras3_function = import_keras().activations.hard_sigmoid
    for name in ("activation", "recurrent_activation"):
        if getattr(layer, name, None) is keras3_function:
            setattr(layer, name, hard_sigmoid)


def hard_sigmoid(x: Any) -> Any:
    """Return the hard sigmoid of Keras 2: 0.2 x + 0.5 in 0..1. Keras 3 has x / 6 + 0.5."""
    return import_keras().ops.clip(0.2 * x + 0.5, 0.0, 1.0)
