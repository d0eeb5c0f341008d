"""Changes of an ONNX graph: one output, tokens to a flat vector, and uint8 pixels as input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pomona.building.graph.endpoints import did_you_mean, patch_tokens, pooling
from pomona.building.graph.image_input import Sides
from pomona.building.network_settings import NetworkSettings
from pomona.encoder.preprocessing import Preprocessing
from pomona.errors import EncoderError

__all__ = [
    "cut",
    "cut_at_output",
    "flatten_output",
    "inputs",
    "pooled",
    "prepend_preprocessing",
    "sides",
]

_ORDERS = {"RGB": [0, 1, 2], "BGR": [2, 1, 0], "grey": [0]}  # the three of grey are equal


def inputs(model: Any) -> list[Any]:
    """Return the inputs of a graph. Old files list their arrays among them: these are left out."""
    arrays = {array.name for array in model.graph.initializer}
    return [each for each in model.graph.input if each.name not in arrays]


def sides(value: Any) -> Sides:
    """Return the shape of an input."""
    return [side.dim_value or None for side in value.type.tensor_type.shape.dim]


def cut_at_output(model: Any, image: str, path: Path, settings: NetworkSettings) -> str:
    """Remove all outputs but one, and return its name."""
    outputs = [output.name for output in model.graph.output]
    if settings.layer is None and len(outputs) > 1:
        raise EncoderError(
            f"{path} has {len(outputs)} outputs ({', '.join(outputs)}), expected one vector for "
            "each image: name one, or a layer, with `layer`"
        )
    output = settings.layer or outputs[0]
    cut(model, output, path)
    if image not in {each.name for each in inputs(model)}:
        raise EncoderError(
            f"{path} computes {output!r} without the image: choose another layer with `layer`"
        )
    return output


def cut(model: Any, output: str, path: Path) -> None:
    """Cut a graph off after a tensor, and remove everything that it does not need.

    `onnx.utils.Extractor` does not look into branches and loops, and needs the shape of the tensor.

    Raises:
        EncoderError: there is no such tensor; the message suggests similar ones.
    """
    graph = model.graph
    names = [name for node in graph.node for name in node.output if name]
    if output not in names and output not in {each.name for each in graph.output}:
        raise EncoderError(f"{path} has no layer {output!r}{did_you_mean(output, names)}")
    needed = _remove_unneeded(graph, output)
    kept = [each for each in graph.input if each.name in needed]
    del graph.input[:]
    graph.input.extend(kept)
    _set_output(graph, output)


def _set_output(graph: Any, name: str) -> None:
    from onnx import ValueInfoProto

    del graph.output[:]
    graph.output.append(ValueInfoProto(name=name))  # of any number type


def _remove_unneeded(graph: Any, output: str) -> set[str]:
    """Remove nodes and arrays that an output does not need. Return the names that it needs."""
    needed, kept = {output}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(_read_by(node))
    del graph.node[:]
    graph.node.extend(reversed(kept))
    arrays = [array for array in graph.initializer if array.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(arrays)
    return needed


def _read_by(node: Any) -> set[str]:
    """Return the names that a node reads, including those in its branches and loops."""
    names = set(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                names |= _read_by(inner)
    return names


def pooled(
    model: Any, shape: tuple[int, ...], settings: NetworkSettings
) -> tuple[tuple[int, ...], str]:
    """Turn tokens (N, T, D), or a map (N, D, height, width), into one vector (N, D), in place.

    Args:
        model: an `onnx.ModelProto` with one output.
        shape: of this output, for one image.
        settings: with `pool`, as for `endpoints.pooled`.

    Returns:
        The new shape for one image, and what was done, for the fingerprint.
    """
    from onnx import helper, numpy_helper

    how = pooling(settings, len(shape))
    if not how:
        return shape, ""
    graph, name = model.graph, model.graph.output[0].name
    axes, width = ([2, 3], shape[1]) if len(shape) == 4 else ([1], shape[2])
    if len(shape) == 3:
        is_first = settings.pool == "cls"  # the index has rank 0, so that the axis disappears
        indices = np.array(0) if is_first else patch_tokens(settings, shape[1])
        graph.initializer.append(numpy_helper.from_array(indices, "pomona_tokens"))
        taken = helper.make_node("Gather", [name, "pomona_tokens"], ["pomona_taken"], axis=1)
        graph.node.append(taken)
        name = "pomona_taken"
    if len(shape) == 4 or settings.pool == "mean":
        graph.node.append(_mean(model, name, axes))
        name = "pomona_pooled"
    _set_output(graph, name)
    return (1, width), how


def _mean(model: Any, name: str, axes: list[int]) -> Any:
    """Return the node of a mean over axes, which are an input since opset 18."""
    from onnx import helper, numpy_helper

    if max(used.version for used in model.opset_import if used.domain in ("", "ai.onnx")) < 18:
        return helper.make_node("ReduceMean", [name], ["pomona_pooled"], axes=axes, keepdims=0)
    model.graph.initializer.append(numpy_helper.from_array(np.array(axes), "pomona_axes"))
    return helper.make_node("ReduceMean", [name, "pomona_axes"], ["pomona_pooled"], keepdims=0)


def flatten_output(model: Any, *, normalize: bool = False) -> None:
    """Replace the output by a float32 vector for each image: (N, ...) -> (N, D).

    If asked, scale it to length 1.
    """
    from onnx import TensorProto, helper

    (output,) = model.graph.output
    flat = helper.make_node("Flatten", [output.name], ["pomona_flat"], axis=1)
    name = "pomona_floats" if normalize else "pomona_vector"
    model.graph.node.extend(
        [flat, helper.make_node("Cast", ["pomona_flat"], [name], to=TensorProto.FLOAT)]
    )
    if normalize:
        unit = helper.make_node("LpNormalization", [name], ["pomona_vector"], axis=1, p=2)
        model.graph.node.append(unit)  # ONNX Runtime returns zeros for a vector of zeros
    del model.graph.output[:]
    vector = helper.make_tensor_value_info("pomona_vector", TensorProto.FLOAT, None)
    model.graph.output.append(vector)


def prepend_preprocessing(
    model: Any, image: Any, preprocessing: Preprocessing, layout: str, *, only_one: bool
) -> None:
    """Put the arithmetic in front: RGB pixels (N, height, width, 3) -> input of the network."""
    from onnx import TensorProto, helper, numpy_helper

    kind = image.type.tensor_type.elem_type
    order = _ORDERS[preprocessing.channel_order]
    arrays = {
        "pomona_mean": np.array(preprocessing.mean[: len(order)], np.float32),
        "pomona_std": np.array(preprocessing.std[: len(order)], np.float32),
        "pomona_order": np.array(order),
    }
    nodes = [
        helper.make_node("Gather", ["pomona_pixels", "pomona_order"], ["pomona_ordered"], axis=3),
        helper.make_node("Cast", ["pomona_ordered"], ["pomona_numbers"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["pomona_numbers", "pomona_mean"], ["pomona_centred"]),
        helper.make_node("Div", ["pomona_centred", "pomona_std"], ["pomona_scaled"]),
        helper.make_node(
            "Transpose",
            ["pomona_scaled"],
            ["pomona_placed"],
            perm=[0, 3, 1, 2] if layout == "NCHW" else [0, 1, 2, 3],
        ),
        helper.make_node("Cast", ["pomona_placed"], [image.name], to=kind),
    ]
    graph = model.graph
    rest = list(graph.node)
    del graph.node[:], graph.input[:], graph.value_info[:]  # of tensors that may no longer exist
    graph.node.extend([*nodes, *rest])
    pixels = helper.np_dtype_to_tensor_dtype(np.dtype(preprocessing.pixel_type))
    shape = [1 if only_one else "N", preprocessing.height, preprocessing.width, 3]
    graph.input.append(helper.make_tensor_value_info("pomona_pixels", pixels, shape))
    graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in arrays.items())
