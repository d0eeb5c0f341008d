"""A Keras model's configuration of any version -> one that the installed Keras reads."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterator
from typing import Any

from pomona.building.keras.backend import import_keras
from pomona.building.keras.keras2 import NETWORK_LAYERS, modernized
from pomona.building.keras.keras2_functions import turns_channels

__all__ = ["objects_in", "readable"]

_TRAINING_ENDINGS = ("_initializer", "_regularizer", "_constraint")
_OPERATIONS = ("numpy", "nn", "math", "core", "image", "linalg")  # of `keras.src.ops`
_FLOAT = re.compile(r"(.*_from_)?(?:mixed_)?b?float(?:16|64)")
_ELLIPSIS = {"class_name": "__ellipsis__", "config": {}}
_WHOLE = {"class_name": "__slice__", "config": {"start": None, "stop": None, "step": None}}


def readable(config: dict[str, Any], version: str) -> dict[str, Any]:
    """Return a model's configuration for Keras 3, in float32, without the parts for training.

    Features do not depend on a custom loss or an initializer, and Pomona would refuse their code.
    Mixed precision is removed here, because layers pass theirs on to layers within them.

    Args:
        config: the configuration in the file.
        version: version of the Keras that wrote it.

    Raises:
        LookupError, TypeError, ValueError: it is not the configuration of a model.
    """
    config = _without_training({k: v for k, v in config.items() if k != "compile_config"})
    if not version.startswith("3."):
        config = modernized(config)
    for part in objects_in(config):
        if isinstance(own := part.get("config"), dict) and {"dtype", "name"} <= own.keys():
            own["dtype"] = _in_float32(own["dtype"])
        if "inbound_nodes" in part and isinstance(part.get("config"), dict):
            _make_readable(part)
    return config


def objects_in(config: Any) -> Iterator[dict[str, Any]]:
    """Yield all objects that a configuration makes Keras create, including nested ones."""
    waiting = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if isinstance(part.get("class_name"), str):
                yield part
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _in_float32(policy: Any) -> Any:
    """Return a dtype policy with float32 instead of other floats: `int8_from_mixed_bfloat16`."""
    if isinstance(policy, dict):
        return {key: _in_float32(value) for key, value in policy.items()}
    if isinstance(policy, str) and (found := _FLOAT.fullmatch(policy)):
        return f"{found[1] or ''}float32"
    return policy


def _without_training(part: Any) -> Any:
    if isinstance(part, dict):
        return {
            key: _without_training(value)
            for key, value in part.items()
            if not key.endswith(_TRAINING_ENDINGS)
        }
    return [_without_training(each) for each in part] if isinstance(part, list) else part


def _make_readable(layer: dict[str, Any]) -> None:
    """Add the module of an operation, and the axes of a slice.

    Keras 3 writes `.h5` files that it cannot read: for `x / 255` they have only the name
    `TrueDivide`, and Keras looks for a layer of that name. It reads the ellipsis of `x[..., 2]` in
    two ways.
    """
    kind = layer["class_name"]
    if "module" not in layer:
        if kind in NETWORK_LAYERS:
            layer |= {"module": NETWORK_LAYERS[kind], "registered_name": kind}
        elif kind in _operations() and "trainable" not in layer["config"]:  # which layers have
            layer |= {"module": _operations()[kind], "registered_name": kind}
    if kind == "GetItem" and all(turns_channels(_keys(node)) for node in layer["inbound_nodes"]):
        # OpenVINO does not support negative steps.
        layer |= {"class_name": "Flip", "registered_name": "Flip"}
        layer["config"] = {**layer["config"], "axis": -1}
        layer["inbound_nodes"] = [{**n, "args": n["args"][:1]} for n in layer["inbound_nodes"]]
    elif kind == "GetItem":
        layer["inbound_nodes"] = [_with_all_axes(node) for node in layer["inbound_nodes"]]


def _keys(node: dict[str, Any]) -> Any:
    return node["args"][1] if len(node["args"]) > 1 else None


def _with_all_axes(node: dict[str, Any]) -> dict[str, Any]:
    tensor, keys = node["args"]
    if not isinstance(keys, list) or _ELLIPSIS not in keys:
        return node
    axes, at = len(tensor["config"]["shape"]) - len(keys) + 1, keys.index(_ELLIPSIS)
    return {**node, "args": [tensor, [*keys[:at], *[_WHOLE] * axes, *keys[at + 1 :]]]}


@functools.cache
def _operations() -> dict[str, str]:
    """Return the module of each operation of Keras, as in Keras' own `.keras` files."""
    import_keras()
    from keras import Operation

    found: dict[str, str] = {}
    for name in _OPERATIONS:
        module = importlib.import_module(f"keras.src.ops.{name}")
        for kind, value in vars(module).items():
            if isinstance(value, type) and issubclass(value, Operation):
                found.setdefault(kind, module.__name__)
    return found
