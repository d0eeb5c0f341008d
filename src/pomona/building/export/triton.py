"""Encoder -> a model repository of NVIDIA Triton."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from pomona.building.export import onnx_model
from pomona.building.export.folder import Served, copy_program, probes
from pomona.building.export.openvino_model import named
from pomona.encoder.encoder import Encoder
from pomona.runtime.openvino import import_openvino, read_graph, vector_settings
from pomona.runtime.parity import TOLERANCE

__all__ = ["write"]

_MOST_IMAGES = 64  # of a batch: 9.6 MB of pixels at 224 x 224

_CONFIG = """\
backend: "{backend}"
max_batch_size: {most_images}
input [ {{ name: "pixels", data_type: {type}, dims: [ {sides} ] }} ]
output [ {{ name: "features", data_type: TYPE_FP32, dims: [ {numbers} ] }} ]
"""

_BATCHING = """\
dynamic_batching { }
"""

_ON_CPU = """\
instance_group [ { count: 1, kind: KIND_CPU } ]
"""


def write(encoder: Encoder, name: str, folder: Path) -> Served:
    """Write a model repository: the Python backend for OpenVINO, or the ONNX Runtime backend.

    Raises:
        EncoderError: the network cannot be read.
    """
    version = folder / name / "1"
    version.mkdir(parents=True)
    uses_onnx = encoder.runtime == "onnxruntime"
    served = _write_onnx(encoder, version) if uses_onnx else _write_openvino(encoder, version)
    spec = encoder.preprocessing
    takes_one = served.most_images == 1  # its graph then has the side for the images
    first = ["1"] if takes_one else []
    config = _CONFIG.format(
        backend="onnxruntime" if uses_onnx else "python",
        most_images=0 if takes_one else _MOST_IMAGES,
        type={"uint8": "TYPE_UINT8", "float32": "TYPE_FP32"}[spec.pixel_type],
        sides=", ".join([*first, str(spec.height), str(spec.width), "3"]),
        numbers=", ".join([*first, str(encoder.dimension)]),
    )
    config += ("" if takes_one else _BATCHING) + ("" if uses_onnx else _ON_CPU)
    (version.parent / "config.pbtxt").write_text(config)
    copy_program("check.py", folder / "check.py")
    return served


def _write_openvino(encoder: Encoder, version: Path) -> Served:
    openvino = import_openvino()
    model = named(read_graph(encoder))
    (version / "settings.json").write_text(json.dumps(vector_settings(encoder, model)) + "\n")
    openvino.serialize(model, version / "model.xml", version / "model.bin")
    pixels, vectors = probes(encoder)
    np.savez(
        version / "probe.npz",
        pixels=pixels[:1],
        vectors=vectors[:1],
        tolerance=TOLERANCE[encoder.precision],
    )
    copy_program("model.py", version / "model.py")
    return Served("triton-openvino.md", _MOST_IMAGES)


def _write_onnx(encoder: Encoder, version: Path) -> Served:
    served = onnx_model.write_model(encoder, version / "model.onnx")
    return Served("triton-onnxruntime.md", served.most_images or _MOST_IMAGES)
