"""What a Keras network is, whatever its layers are called and whichever file it came from."""

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
    """SHA-256 (hex) over the steps up to an output: classes, settings, and what is given to which.

    Names are left out: Keras counts them on within a session, so that the same program run twice
    gives others. So is what only training needs, and each argument that has its class's own
    default, since a later Keras may have more of them.

    Args:
        steps: what `FlatNetwork.before` gave for the output, its own last.
        layout: of the image, NHWC or NCHW.
    """
    numbers: dict[int, list[int]] = {}
    layers = {id(layer): number for number, layer in enumerate(layers_in_order(steps))}
    told = []
    for number, step in enumerate(steps):
        told.append(
            {
                "class": step.kind,
                "layer": layers[id(step.layer)],
                "settings": _settings(step.layer),
                "args": _plain(step.args, numbers),
                "kwargs": _plain({k: v for k, v in step.kwargs.items() if v is not None}, numbers),
            }
        )
        for index, tensor in enumerate(tensors_in(step.made)):
            numbers[id(tensor)] = [number, index]
    return canonical_digest({"image": layout, "steps": told})


def layers_in_order(steps: Sequence[Step]) -> list[Any]:
    """The layers that do the steps, each once."""
    return list({id(step.layer): step.layer for step in steps}.values())


def _settings(layer: Any) -> dict[str, Any]:
    config = layer.get_config()
    if not isinstance(layer, import_keras().Layer):  # a `Cast`'s dtype is no matter of training
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
    """A function of the user's own as Keras writes it, without the file that it was written in.

    It has been loaded before, and run, with `trust`.
    """
    code = marshal.loads(base64.b64decode(written))  # noqa: S302
    return _instructions(code)


def _instructions(code: CodeType) -> list[Any]:
    constants = [
        _instructions(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts
    ]
    return [code.co_code.hex(), constants, list(code.co_names)]


def _plain(value: Any, numbers: dict[int, list[int]]) -> Any:
    """A value as JSON knows it; a tensor of the graph by the step that made it, or `image`."""
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
    return {"class": type(value).__name__}  # Ellipsis; the default of an argument that has none
