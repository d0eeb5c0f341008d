"""The identity of a Keras network, independent of its layers' names and its file."""

from __future__ import annotations

import base64
import hashlib
import inspect
import marshal
from collections.abc import Sequence
from types import CodeType
from typing import Any

import numpy as np

from pomona.building.keras.backend import import_keras
from pomona.building.keras.flatten import Step, tensors_in
from pomona.encoder.encoder import canonical_digest

__all__ = ["architecture_digest", "layers_in_order"]

_UNIMPORTANT = {"name", "trainable", "dtype", "build_config", "seed"}
_TRAINING_ENDINGS = ("_initializer", "_regularizer", "_constraint")


def architecture_digest(steps: Sequence[Step], layout: str) -> str:
    """Return the SHA-256 (hex) of the steps up to an output: classes, settings and connections.

    Names do not count: Keras numbers them within a session, so a second run of a program gets
    different ones. Settings for training and arguments with the default value of their class do not
    count either, because a later Keras may have more of them.

    Args:
        steps: the result of `FlatNetwork.before` for the output; its own step is the last.
        layout: layout of the image, NHWC or NCHW.
    """
    numbers: dict[int, list[int]] = {}
    layers = {id(layer): number for number, layer in enumerate(layers_in_order(steps))}
    entries = []
    for number, step in enumerate(steps):
        entries.append(
            {
                "class": step.kind,
                "layer": layers[id(step.layer)],
                "settings": _settings(step.layer),
                "args": _plain(step.args, numbers),
                "kwargs": _plain({k: v for k, v in step.kwargs.items() if v is not None}, numbers),
            }
        )
        for index, tensor in enumerate(tensors_in(step.outputs)):
            numbers[id(tensor)] = [number, index]
    return canonical_digest({"image": layout, "steps": entries})


def layers_in_order(steps: Sequence[Step]) -> list[Any]:
    """Return the layers of the steps, each once."""
    return list({id(step.layer): step.layer for step in steps}.values())


def _settings(layer: Any) -> dict[str, Any]:
    config = layer.get_config()
    if not isinstance(layer, import_keras().Layer):  # an operation: a `Cast`'s dtype counts
        return {key: _plain(value, {}) for key, value in config.items() if key != "name"}
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(type(layer).__init__).parameters.items()
    }
    important = _without_training(config)
    plain = {key: _plain(value, {}) for key, value in important.items()}
    return {
        key: value
        for key, value in plain.items()
        if key not in defaults or value != _plain(defaults[key], {})
    }


def _without_training(part: Any) -> Any:
    if isinstance(part, dict):
        if part.get("class_name") == "__lambda__":
            return {**part, "config": {**part["config"], "code": _code(part["config"]["code"])}}
        return {
            key: _without_training(value)
            for key, value in part.items()
            if key not in _UNIMPORTANT and not str(key).endswith(_TRAINING_ENDINGS)
        }
    return [_without_training(each) for each in part] if isinstance(part, list) else part


def _code(written: str) -> Any:
    """Return a function of the user as Keras serializes it, without the name of its source file.

    It was loaded and run before, because the user gave `trust`.
    """
    code = marshal.loads(base64.b64decode(written))  # noqa: S302
    return _instructions(code)


def _instructions(code: CodeType) -> list[Any]:
    constants = [
        _instructions(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts
    ]
    return [code.co_code.hex(), constants, list(code.co_names)]


def _plain(value: Any, numbers: dict[int, list[int]]) -> Any:
    """Return a value as JSON. A tensor of the graph becomes the number of its step, or `image`."""
    if isinstance(value, import_keras().KerasTensor):
        return {"tensor": numbers.get(id(value), "image")}
    if isinstance(value, list | tuple):
        return [_plain(each, numbers) for each in value]
    if isinstance(value, dict):
        return {str(key): _plain(each, numbers) for key, each in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return _in_words(value)


def _in_words(value: Any) -> dict[str, Any]:
    if isinstance(value, slice):
        return {"slice": [value.start, value.stop, value.step]}
    if isinstance(value, np.ndarray | np.generic) or hasattr(value, "numpy"):
        array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
        content = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        return {"array": [array.dtype.str, list(array.shape), content]}
    return {"class": type(value).__name__}  # Ellipsis, or the marker for "no default"
