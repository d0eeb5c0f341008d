"""The end of a network that is a graph: features, or the scores of a classifier.

For a file that is not a Keras model, the output is used as it is. Scores look like features but are
not: they are vectors of another length that distinguish only the classes of the training.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pomona.building.file_digest import as_text
from pomona.errors import EncoderError

__all__ = ["Operation", "check_end", "in_onnx", "in_openvino", "tensor_name"]

_log = logging.getLogger(__name__)

# Operation types, by their names in OpenVINO and in ONNX.
_SCORES = {"Softmax", "LogSoftmax", "Sigmoid", "HardSigmoid"}
_SHAPING = {
    *("Cast", "Convert", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"),
    *("Clamp", "Clip", "Dropout", "Slice", "StridedSlice"),
    *("DequantizeLinear", "FakeQuantize", "QuantizeLinear"),
}
# Operations that return the same numbers, perhaps in another shape.
_PLACING = {"FakeQuantize", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"}
_WITH_A_CONSTANT = {"Add", "Sub", "Subtract", "Mul", "Multiply", "Div", "Divide"}
_NORMALISING = {"BatchNormalization", "BatchNormInference"}
_DENSE = {"MatMul", "Gemm", "FullyConnected"}
_CONVOLUTIONS = {"Conv", "Convolution"}


@dataclass(frozen=True, slots=True)
class Operation:
    """The operation that computes a tensor.

    Attributes:
        name: the value of `layer` for the tensor.
        kind: the type of the operation, as its format names it.
        inputs: keys of the input tensors, without constants.
        on_pixel: whether it is a convolution whose input has one pixel.
        is_named: whether the name is from the file, not from the library that read it.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    on_pixel: bool = False
    is_named: bool = True

    @property
    def is_dense(self) -> bool:
        """Whether this can be a classifier's last layer: one input tensor and constant weights."""
        kind = self.kind in _DENSE or (self.kind in _CONVOLUTIONS and self.on_pixel)
        return kind and len(self.inputs) == 1


def check_end(makers: Mapping[str, Operation], output: str, path: Path) -> None:
    """Refuse scores, and suggest another layer in the log if the output may be a classifier's.

    Args:
        makers: the operation that computes each tensor, by the tensor's key.
        output: key of the output, which the user has not chosen by name.
        path: the name of the network, for errors.

    Raises:
        EncoderError: the output is a score.
    """
    key, scores, passed = output, "", _SHAPING | _WITH_A_CONSTANT
    while (operation := makers.get(key)) and len(operation.inputs) == 1 and not operation.is_dense:
        if operation.kind in _SCORES:
            scores, passed = operation.kind, passed | _NORMALISING
        elif operation.kind not in passed:
            break
        (key,) = operation.inputs
    before = makers.get(operation.inputs[0]) if operation and operation.is_dense else None
    while before and not before.is_named and before.kind in _PLACING:
        before = makers.get(before.inputs[0])
    name = makers[output].name if output in makers else output
    if scores:
        advice = f"; `layer` '{before.name}' is the input of its last dense layer" if before else ""
        raise EncoderError(
            f"{path} ends in scores ({name!r}, a {scores}), which are not features: choose another "
            f"layer with `layer`{advice}"
        )
    if before:
        _log.info(
            "the output %r of %s comes from a dense layer; if it is a classifier's, `layer` '%s' "
            "is the input of that layer",
            *(name, as_text(path), before.name),
        )


def in_openvino(network: Any) -> tuple[dict[str, Operation], str]:
    """Return the operations of an `openvino.Model` by their tensors, and the key of its output."""
    constant: set[str] = set()
    makers: dict[str, Operation] = {}
    for operation in network.get_ordered_ops():
        kind, sources = operation.get_type_name(), operation.input_values()
        inputs = [each for each in sources if each.get_node().get_name() not in constant]
        if kind == "Constant" or (sources and not inputs):
            constant.add(operation.get_name())
        pixel = kind in _CONVOLUTIONS and sources[0].get_partial_shape().is_static
        on_pixel = pixel and list(sources[0].get_shape())[2:] == [1, 1]
        for output in operation.outputs():
            name, is_named = tensor_name(output), bool(output.get_names())
            keys = list(map(_key, inputs))
            node = _operation(name, kind, keys, on_pixel=on_pixel, is_named=is_named)
            makers[_key(output)] = node
    return makers, _key(network.output(0).get_node().input_value(0))


def _key(output: Any) -> str:
    return f"{output.get_node().get_name()}:{output.get_index()}"  # friendly names are not unique


def tensor_name(output: Any) -> str:
    """Return the shortest name of a tensor in OpenVINO, or else the name of its operation."""
    names = output.get_names()
    if names:
        return str(min(names, key=lambda name: (len(name), name)))
    return str(output.get_node().get_friendly_name())


def in_onnx(model: Any) -> tuple[dict[str, Operation], str]:
    """Return the nodes of an `onnx.ModelProto` by their tensors, and the key of its output."""
    from onnx import shape_inference

    try:
        shapes = shape_inference.infer_shapes(model).graph.value_info
    except Exception:  # noqa: BLE001 - the model exceeds 2 GB, or has custom operations
        shapes = []
    sides = {each.name: [d.dim_value for d in each.type.tensor_type.shape.dim] for each in shapes}
    constant = {array.name for array in model.graph.initializer}
    makers: dict[str, Operation] = {}
    for node in model.graph.node:
        inputs = [name for name in node.input if name and name not in constant]
        if node.op_type == "Constant" or (node.input and not inputs):
            constant.update(node.output)
        on_pixel = bool(inputs) and sides.get(inputs[0], [])[2:] == [1, 1]
        for output in node.output:
            makers[output] = _operation(output, node.op_type, inputs, on_pixel=on_pixel)
    return makers, str(model.graph.output[0].name)


def _operation(
    name: str, kind: str, inputs: Sequence[str], *, on_pixel: bool, is_named: bool = True
) -> Operation:
    # The inputs after the first one are a shape, which need not be constant.
    keys = tuple(inputs[:1] if kind in _SHAPING else inputs)
    return Operation(name, kind, keys, on_pixel, is_named)
