"""Encoder -> OpenVINO's files, for OpenVINO Model Server: any number of images in a request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from pomona.building.export.folder import Served, check_vectors, copy_program, probes
from pomona.encoder.encoder import Encoder
from pomona.errors import EncoderError
from pomona.messages import one_line
from pomona.runtime.openvino import import_openvino, read_graph, vector_settings

__all__ = ["named", "write"]


def write(encoder: Encoder, name: str, folder: Path) -> Served:
    """Write a folder for OpenVINO Model Server.

    Raises:
        EncoderError: OpenVINO cannot read or compute the network, or the server cannot be set to
            its precision.
    """
    model, takes_several = _checked(encoder)
    settings = vector_settings(encoder, model)
    if settings.pop("LP_TRANSFORMS_MODE") is False and encoder.precision == "int8":
        raise EncoderError(
            f"encoder {encoder.fingerprint[:12]} ({encoder.model}) has 8-bit weights whose sums "
            "overflow on some processors, and OpenVINO Model Server has no setting to prevent it: "
            "use `to` triton or kserve"
        )
    version = folder / name / "1"
    version.mkdir(parents=True)
    import_openvino().serialize(model, version / "model.xml", version / "model.bin")
    config = {"name": name, "base_path": name, "plugin_config": settings}
    (folder / "config.json").write_text(
        json.dumps({"model_config_list": [{"config": config}]}, indent=2) + "\n"
    )
    copy_program("check.py", folder / "check.py")
    return Served("openvino.md", most_images=None if takes_several else 1)


def named(model: Any) -> Any:
    """Name the input and the output of a graph, and return the graph."""
    model.input().get_tensor().set_names({"pixels"})
    model.output().get_tensor().set_names({"features"})
    return model


def _checked(encoder: Encoder) -> tuple[Any, bool]:
    """Return the graph, and whether it takes any number of images. Its vectors are checked."""
    pixels, _ = probes(encoder)
    try:
        model = named(_for_any_batch(read_graph(encoder)))
        found = _computed(encoder, model, [pixels])
        check_vectors(encoder, found, "the graph for several images")
    except (RuntimeError, EncoderError):
        pass  # a network that is written for one image
    else:
        return model, True
    try:
        model = named(read_graph(encoder))
        spec = encoder.preprocessing
        model.reshape([1, spec.height, spec.width, 3])
        found = _computed(encoder, model, [pixel[None] for pixel in pixels])
    except RuntimeError as error:
        raise EncoderError(
            f"OpenVINO cannot compute encoder {encoder.fingerprint[:12]} ({encoder.model}): "
            f"{one_line(error, 200)}; use `to` onnx, triton or kserve"
        ) from error
    check_vectors(encoder, found, "OpenVINO")
    return model, False


def _computed(encoder: Encoder, model: Any, batches: list[Any]) -> Any:
    core = import_openvino().Core()
    compiled = core.compile_model(model, "CPU", vector_settings(encoder, model))
    return np.concatenate([compiled(batch)[0] for batch in batches])


def _for_any_batch(model: Any) -> Any:
    """Let a graph for one image take several.

    A reshape to (1, ...) becomes one to (-1, ...). The result is right if the first axis is that of
    the images everywhere; the caller checks it with the probes.
    """
    from openvino import opset8

    for operation in model.get_ordered_ops():
        if operation.get_type_name() != "Reshape":
            continue
        shape = operation.output(0).get_partial_shape()
        from_constant = operation.input_value(0).get_node().get_type_name() == "Constant"
        if from_constant or shape.is_dynamic or len(shape) == 0:
            continue
        sides = [-1, *list(shape.to_shape())[1:]]
        operation.input(1).replace_source_output(opset8.constant(np.array(sides)).output(0))
    height, width = list(model.input().get_partial_shape())[1:3]
    model.reshape([-1, height, width, 3])
    return model
