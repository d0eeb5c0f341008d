"""TensorFlow's functions within models of Keras 2 -> Keras 3's operations.

`tf.keras` makes a layer, `TFOpLambda`, for each function that a functional model applies to a
tensor. This module has the functions that networks for images use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

__all__ = ["as_operation", "turns_channels"]

Config = dict[str, Any]
Made = tuple[str, Config, list[Any]]
"""An operation: its module and class, its configuration, and its arguments."""

_NUMPY, _NN = "keras.src.ops.numpy", "keras.src.ops.nn"

# Of two arguments, x and y.
_BINARY = {
    "math.truediv": "TrueDivide",
    "math.divide": "TrueDivide",
    "__operators__.truediv": "TrueDivide",
    "math.add": "Add",
    "__operators__.add": "Add",
    "math.subtract": "Subtract",
    "math.multiply": "Multiply",
    "math.maximum": "Maximum",
    "math.minimum": "Minimum",
    "math.pow": "Power",
}
# Of the tensor alone.
_UNARY = {
    "nn.relu": (_NN, "Relu"),
    "nn.relu6": (_NN, "Relu6"),
    "nn.sigmoid": (_NN, "Sigmoid"),
    "math.sigmoid": (_NN, "Sigmoid"),
    "nn.silu": (_NN, "Silu"),
    "nn.swish": (_NN, "Silu"),
    "nn.elu": (_NN, "Elu"),
    "nn.softplus": (_NN, "Softplus"),
    "math.softplus": (_NN, "Softplus"),
    "nn.tanh": (_NUMPY, "Tanh"),
    "math.tanh": (_NUMPY, "Tanh"),
    "math.abs": (_NUMPY, "Absolute"),
    "math.exp": (_NUMPY, "Exp"),
    "math.log": (_NUMPY, "Log"),
    "math.negative": (_NUMPY, "Negative"),
    "math.sqrt": (_NUMPY, "Sqrt"),
    "math.square": (_NUMPY, "Square"),
}
_REDUCING = {
    "math.reduce_mean": "Mean",
    "math.reduce_max": "Max",
    "math.reduce_min": "Min",
    "math.reduce_sum": "Sum",
}


def as_operation(layer: Config, calls: Sequence[tuple[Any, Config]]) -> Config | None:
    """Replace a TensorFlow function by an operation of Keras 3.

    Args:
        layer: of the class `TFOpLambda` or `SlicingOpLambda`.
        calls: its first argument and those by name, in Keras 3's form, for each call.

    Returns:
        The layer in the form of Keras 3; None for an unknown function or unknown arguments.
    """
    function = str(layer["config"].get("function"))
    converted = [_converted(function, first, named) for first, named in calls]
    kinds = {repr(each[:2]) for each in converted if each}
    if not converted or not all(converted) or len(kinds) > 1:
        return None  # nothing calls it, or its calls are two operations
    operations = [each for each in converted if each]
    where, config, _ = operations[0]
    module, _, kind = where.rpartition(".")
    return {
        "module": module,
        "class_name": kind,
        "config": config,
        "registered_name": None if module == "keras.layers" else kind,
        "name": layer["name"],
        "inbound_nodes": [{"args": args, "kwargs": {}} for _, _, args in operations],
    }


def _converted(function: str, first: Any, named: Config) -> Made | None:
    # None and False are TensorFlow's defaults.
    named = {k: v for k, v in named.items() if k != "name" and v is not None and v is not False}
    if function in _BINARY and set(named) == {"y"}:
        return f"{_NUMPY}.{_BINARY[function]}", {}, [_constant(first), _constant(named["y"])]
    if function in _UNARY and not named:
        return ".".join(_UNARY[function]), {}, [first]
    if function in _REDUCING and set(named) <= {"axis", "keepdims"}:
        return f"{_NUMPY}.{_REDUCING[function]}", named, [first]
    make = _OTHERS.get(function)
    return make(first, named) if make else None


def _constant(value: Any) -> Any:
    """Return a list of numbers as a tensor; a tensor or a number unchanged."""
    if isinstance(value, list):
        return {"class_name": "__tensor__", "config": {"value": value, "dtype": "float32"}}
    return value


def _bias_add(value: Any, named: Config) -> Made | None:
    if named.get("data_format") not in (None, "NHWC") or not isinstance(named.get("bias"), list):
        return None
    return f"{_NUMPY}.Add", {}, [value, _constant(named["bias"])]


def _cast(value: Any, named: Config) -> Made | None:
    kind = named.get("dtype")
    return ("keras.src.ops.core.Cast", {"dtype": kind}, [value]) if isinstance(kind, str) else None


def _clip(value: Any, named: Config) -> Made | None:
    low, high = named.get("clip_value_min"), named.get("clip_value_max")
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return None
    return f"{_NUMPY}.Clip", {"x_min": low, "x_max": high}, [value]


def _softmax(value: Any, named: Config) -> Made | None:
    return (f"{_NN}.Softmax", named, [value]) if set(named) <= {"axis"} else None


def _gelu(value: Any, named: Config) -> Made | None:
    if not set(named) <= {"approximate"}:
        return None
    return f"{_NN}.Gelu", {"approximate": named.get("approximate", False)}, [value]


def _leaky_relu(value: Any, named: Config) -> Made | None:
    if not set(named) <= {"alpha"}:
        return None
    return f"{_NN}.LeakyRelu", {"negative_slope": named.get("alpha", 0.2)}, [value]


def _l2_normalize(value: Any, named: Config) -> Made | None:
    if not set(named) <= {"axis"}:
        return None
    return "keras.layers.UnitNormalization", {"axis": named.get("axis", -1)}, [value]


def _reshape(value: Any, named: Config) -> Made | None:
    shape = named.get("shape")
    if set(named) != {"shape"} or not _are_numbers(shape):
        return None
    return f"{_NUMPY}.Reshape", {"newshape": shape}, [value]


def _concat(values: Any, named: Config) -> Made | None:
    if set(named) != {"axis"} or not isinstance(values, list):
        return None
    return "keras.layers.Concatenate", {"axis": named["axis"]}, [values]


def _squeeze(value: Any, named: Config) -> Made | None:
    axis = named.get("axis")
    if isinstance(axis, list) and len(axis) == 1:
        (axis,) = axis
    return (f"{_NUMPY}.Squeeze", {"axis": axis}, [value]) if isinstance(axis, int) else None


def _expand_dims(value: Any, named: Config) -> Made | None:
    return (f"{_NUMPY}.ExpandDims", named, [value]) if set(named) == {"axis"} else None


def _transpose(value: Any, named: Config) -> Made | None:
    if set(named) != {"perm"} or not _are_numbers(named["perm"]):
        return None
    return f"{_NUMPY}.Transpose", {"axes": named["perm"]}, [value]


def _resize(value: Any, named: Config) -> Made | None:
    size, method = named.get("size"), named.get("method", "bilinear")
    if not set(named) <= {"size", "method"} or method not in ("bilinear", "nearest"):
        return None
    if not _are_numbers(size) or len(size) != 2:
        return None
    config = {"height": size[0], "width": size[1], "interpolation": method}
    return "keras.layers.Resizing", config, [value]


def _getitem(value: Any, named: Config) -> Made | None:
    """Convert a slice: `x[..., ::-1]` turns RGB into BGR; others keep their form in Keras 3."""
    specs = named.get("slice_spec")
    if not isinstance(specs, list):
        return None
    keys = [_slice_of(spec) for spec in specs]
    if None in keys:
        return None
    if turns_channels(keys):
        return f"{_NUMPY}.Flip", {"axis": -1}, [value]
    return f"{_NUMPY}.GetItem", {}, [value, keys]


def turns_channels(keys: Any) -> bool:
    """Return whether a slice reverses only the last axis (of four, or after an ellipsis)."""
    full, backwards = ({"start": None, "stop": None, "step": step} for step in (None, -1))
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        return False
    slices = [key.get("config") if key.get("class_name") == "__slice__" else None for key in keys]
    before = [key.get("class_name") == "__ellipsis__" for key in keys[:-1]]
    return slices[-1:] == [backwards] and (before == [True] or slices[:-1] == [full] * 3)


def _slice_of(spec: Any) -> Any:
    if isinstance(spec, int):
        return spec
    if isinstance(spec, dict) and spec.get("class_name") == "__ellipsis__":
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(spec, dict) and set(spec) == {"start", "stop", "step"}:
        return {"class_name": "__slice__", "config": spec}
    return None


def _are_numbers(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(isinstance(each, int) for each in value)


def _itself(value: Any, _: Config) -> Made:
    return "keras.layers.Identity", {}, [value]


_OTHERS: dict[str, Callable[[Any, Config], Made | None]] = {
    "__operators__.getitem": _getitem,
    "cast": _cast,
    "clip_by_value": _clip,
    "compat.v1.squeeze": _squeeze,
    "compat.v1.transpose": _transpose,
    "concat": _concat,
    "expand_dims": _expand_dims,
    "identity": _itself,
    "image.resize": _resize,
    "linalg.l2_normalize": _l2_normalize,
    "math.l2_normalize": _l2_normalize,
    "math.softmax": _softmax,
    "nn.bias_add": _bias_add,
    "nn.gelu": _gelu,
    "nn.leaky_relu": _leaky_relu,
    "nn.softmax": _softmax,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "stop_gradient": _itself,
    "transpose": _transpose,
}
