"""Encoder that runs on ONNX Runtime -> an ONNX file with pixels as its input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pomona.building.export.folder import Served, check_vectors, probes
from pomona.encoder.encoder import Encoder
from pomona.errors import EncoderError
from pomona.extras import check_extra
from pomona.runtime.onnxruntime import new_session

__all__ = ["write", "write_model"]


def write(encoder: Encoder, folder: Path) -> Served:
    """Write a folder with one ONNX file.

    Raises:
        EncoderError: the encoder runs on OpenVINO.
    """
    return write_model(encoder, folder / "model.onnx")


def write_model(encoder: Encoder, file: Path) -> Served:
    """Write the ONNX file of an encoder, and compute its probes.

    Raises:
        EncoderError: the encoder runs on OpenVINO, whose graph nothing converts to ONNX.
    """
    if encoder.runtime != "onnxruntime":
        raise EncoderError(
            f"encoder {encoder.fingerprint[:12]} ({encoder.model}) contains a graph of OpenVINO, "
            "which cannot become ONNX: build it from an .onnx file with `runtime` onnxruntime, or "
            "use `to` openvino, triton or kserve"
        )
    check_extra("onnx", "`to` onnx needs ONNX", "onnx", "onnxruntime", error=EncoderError)
    import onnx

    model = onnx.load_model_from_string(encoder.graph)
    (image,), (vector,) = model.graph.input, model.graph.output
    for value, name in ((image, "pixels"), (vector, "features")):
        _rename(model.graph, name, f"{name}_of_network")
        _rename(model.graph, value.name, name)
    first = image.type.tensor_type.shape.dim[0]
    sides = [first.dim_value or first.dim_param, encoder.dimension]
    kind = onnx.TensorProto.FLOAT
    vector.CopyFrom(onnx.helper.make_tensor_value_info("features", kind, sides))
    file.write_bytes(model.SerializeToString())
    pixels, _ = probes(encoder)
    session = new_session(file.read_bytes(), encoder.model)
    batches = [one[None] for one in pixels] if first.dim_value else [pixels]
    found = [session.run(["features"], {"pixels": batch})[0] for batch in batches]
    check_vectors(encoder, np.concatenate(found), "ONNX Runtime")
    return Served("onnx.md", first.dim_value or None)


def _rename(graph: Any, old: str, new: str) -> None:
    """Rename a tensor wherever a graph, its branches and its loops name it."""
    for named in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        if named.name == old:
            named.name = new
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _rename(inner, old, new)
