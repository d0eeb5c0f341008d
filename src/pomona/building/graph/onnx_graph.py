"""Changes of an ONNX graph: one output, a flat vector, and uint8 pixels as input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pomona.building.graph.endpoints import did_you_mean
from pomona.building.network_settings import NetworkSettings
from pomona.encoder.preprocessing import Preprocessing
from pomona.errors import EncoderError

__all__ = ["cut_at_output", "flatten_output", "prepend_preprocessing"]

_ORDERS = {"RGB": [0, 1, 2], "BGR": [2, 1, 0], "grey": [0]}  # the three of grey are equal


def cut_at_output(model: Any, image: str, path: Path, settings: NetworkSettings) -> str:
    """Remove all outputs but one, and return its name."""
    outputs = [output.name for output in model.graph.output]
    names = [name for node in model.graph.node for name in node.output if name]
    name = settings.layer
    if name is None and len(outputs) > 1:
        raise EncoderError(
            f"{path} has {len(outputs)} outputs ({', '.join(outputs)}), expected one vector for "
            "each image: name one, or a layer, with `layer`"
        )
    if name is not None and name not in names:
        raise EncoderError(f"{path} has no layer {name!r}{did_you_mean(name, names)}")
    output = name or outputs[0]
    if image not in _remove_unneeded(model.graph, output):
        raise EncoderError(
            f"{path} computes {output!r} without the image: choose another layer with `layer`"
        )
    return output


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


def flatten_output(model: Any, output: str, *, normalize: bool = False) -> None:
    """Replace all outputs by a float32 vector for each image: (N, ...) -> (N, D).

    If asked, scale it to length 1.
    """
    from onnx import TensorProto, helper

    flat = helper.make_node("Flatten", [output], ["pomona_flat"], axis=1)
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
    del model.graph.value_info[:]  # shapes of tensors that may no longer exist


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
    del graph.node[:], graph.input[:]
    graph.node.extend([*nodes, *rest])
    pixels = helper.np_dtype_to_tensor_dtype(np.dtype(preprocessing.pixel_type))
    shape = [1 if only_one else "N", preprocessing.height, preprocessing.width, 3]
    graph.input.append(helper.make_tensor_value_info("pomona_pixels", pixels, shape))
    graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in arrays.items())
