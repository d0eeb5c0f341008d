"""Moves the transposes of an OpenVINO graph downwards until they meet and cancel.

Convolutions take channels first. Most Keras models have TensorFlow's layout, channels last. Their
graphs have a transpose before and after each convolution: 208 in MobileNetV2, which makes it 2.5
times slower. An operation that does not depend on the order of its input's axes can run before the
transpose as well as after it:

    transpose -> relu -> transpose back -> convolution   becomes   relu -> convolution

OpenVINO has such a pass for the formats that it reads itself, but not for graphs that Keras has
exported, nor for callers from Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["sink_transposes"]

Axes = tuple[int, ...]

_ELEMENTWISE = {
    *("Abs", "Clamp", "Convert", "Elu", "Exp", "Gelu", "HSigmoid", "HSwish", "Mish", "Negative"),
    *("Relu", "Selu", "Sigmoid", "SoftPlus", "Sqrt", "Swish", "Tanh"),
}
_BROADCASTING = {
    *("Add", "Subtract", "Multiply", "Divide", "Maximum", "Minimum", "Power", "SquaredDifference"),
}
_REDUCTIONS = {"ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"}


def sink_transposes(model: Any) -> None:
    """Rewrite a graph in place; its results stay the same.

    Args:
        model: an `openvino.Model`.
    """
    for operation in model.get_ordered_ops():
        kind = operation.get_type_name()
        if kind == "Transpose":
            _merge(operation)
        elif kind in _ELEMENTWISE:
            _sink(operation, [0])
        elif kind in _BROADCASTING:
            _sink(operation, [0, 1])
        elif kind == "BatchNormInference":
            _sink_normalization(operation)
        elif kind in _REDUCTIONS:
            _sink_reduction(operation)
        elif kind == "Concat":
            _sink_concatenation(operation)
        elif kind == "Pad":
            _sink_padding(operation)
    model.validate_nodes_and_infer_types()


def _merge(transpose: Any) -> None:
    """Merge two consecutive transposes into one, or remove both if they cancel."""
    source = transpose.input_value(0)
    first, second = _axes(source), _axes(transpose.output(0))
    if first is None or second is None:
        return
    both = tuple(first[axis] for axis in second)
    before = source.get_node().input_value(0)
    if both == tuple(range(len(both))):
        _redirect(transpose.output(0).get_target_inputs(), before)
    else:
        transpose.input(0).replace_source_output(before)
        transpose.input(1).replace_source_output(_constant(both))


def _sink_normalization(operation: Any) -> None:
    axes = _axes(operation.input_value(0))
    if axes is not None and axes[1] == 1:  # height and width may be swapped, channels not
        _sink(operation, [0])


def _sink_reduction(operation: Any) -> None:
    axes, numbers = _axes(operation.input_value(0)), _numbers(operation.input_value(1))
    if axes is None or numbers is None:
        return
    reduced = [axes[int(axis)] for axis in np.atleast_1d(numbers)]
    after = axes
    if not operation.get_keep_dims():
        left = [axis for axis in axes if axis not in reduced]
        after = tuple(sorted(left).index(axis) for axis in left)
    operation.input(1).replace_source_output(_constant(reduced))
    _sink(operation, [0], after)


def _sink_concatenation(operation: Any) -> None:
    inputs = range(operation.get_input_size())
    found = {_axes(operation.input_value(index)) for index in inputs}
    axes = found.pop()
    if found or axes is None:
        return
    operation.set_axis(axes[operation.get_axis()])
    _sink(operation, list(inputs))


def _sink_padding(operation: Any) -> None:
    axes = _axes(operation.input_value(0))
    begin, end = _numbers(operation.input_value(1)), _numbers(operation.input_value(2))
    if axes is None or begin is None or end is None:
        return
    for index, pads in ((1, begin), (2, end)):
        operation.input(index).replace_source_output(_constant([pads[a] for a in _inverse(axes)]))
    _sink(operation, [0])


def _sink(operation: Any, inputs: Sequence[int], after: Axes | None = None) -> None:
    """Move an operation before the transposes of its inputs, and transpose its output instead.

    This does nothing if its inputs are transposed in different ways.

    Args:
        operation: an operation that no longer depends on the order of its input's axes.
        inputs: indices of its inputs that are transposed tensors.
        after: the transpose of its output, if it differs from that of its inputs.
    """
    from openvino import opset8

    found = {axes for index in inputs if (axes := _axes(operation.input_value(index)))}
    if len(found) != 1:
        return
    (axes,) = found
    sources = [_above(operation.input_value(index), axes) for index in inputs]
    if any(source is None for source in sources):
        return
    for index, source in zip(inputs, sources, strict=True):
        operation.input(index).replace_source_output(source)
    operation.validate_and_infer_types()
    after = axes if after is None else after  # () if the output is one number
    if after != tuple(range(len(after))):
        targets = operation.output(0).get_target_inputs()
        _redirect(targets, opset8.transpose(operation.output(0), _constant(after)).output(0))


def _above(source: Any, axes: Axes) -> Any | None:
    """Find the tensor of which `source` is the transpose by `axes`; None if there is none."""
    from openvino import opset8

    if _axes(source) == axes:
        return source.get_node().input_value(0)
    shape = source.get_partial_shape()
    if shape.is_dynamic or len(shape) > len(axes):
        return None
    sides = [1] * (len(axes) - len(shape)) + list(shape.to_shape())  # as in broadcasting
    numbers = _numbers(source)
    if numbers is not None:
        return _constant(numbers.reshape(sides).transpose(_inverse(axes)))
    if sum(side > 1 for side in sides) <= 1:  # a scale for each channel: no axes to reorder
        turned = [sides[axis] for axis in _inverse(axes)]
        return opset8.reshape(source, _constant(turned), special_zero=False).output(0)
    return None


def _axes(output: Any) -> Axes | None:
    """Return the order of axes of a transpose; None for all other operations."""
    node = output.get_node()
    if node.get_type_name() != "Transpose":
        return None
    numbers = _numbers(node.input_value(1))
    return None if numbers is None else tuple(map(int, numbers))


def _numbers(output: Any) -> Any | None:
    """Return the values of a constant; None for all other operations."""
    node = output.get_node()
    return node.get_data() if node.get_type_name() == "Constant" else None


def _constant(values: Any) -> Any:
    from openvino import opset8

    array = np.asarray(values)
    return opset8.constant(np.ascontiguousarray(array)).output(0)


def _inverse(axes: Axes) -> Axes:
    return tuple(map(int, np.argsort(axes)))


def _redirect(targets: Any, source: Any) -> None:
    for target in targets:
        target.replace_source_output(source)
