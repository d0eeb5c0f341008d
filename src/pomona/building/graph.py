"""An OpenVINO graph -> what an encoder holds of it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pomona.encoder.blob import Encoder
from pomona.errors import EncoderError
from pomona.runtime.openvino import OpenVinoRuntime, import_openvino
from pomona.runtime.probes import probe_vectors

__all__ = ["serialized", "with_probes"]


def serialized(model: Any) -> tuple[bytes, bytes]:
    """The graph and its constants, in OpenVINO's intermediate representation."""
    openvino = import_openvino()
    with tempfile.TemporaryDirectory(prefix="pomona-") as folder:
        graph, constants = Path(folder, "encoder.xml"), Path(folder, "encoder.bin")
        openvino.serialize(model, graph, constants)
        return graph.read_bytes(), constants.read_bytes()


def with_probes(encoder: Encoder) -> Encoder:
    """Compute the vectors that workers will be held against.

    Raises:
        EncoderError: they are none: NaN, infinite, or nothing but zeros.
    """
    vectors = probe_vectors(OpenVinoRuntime(encoder))
    if not np.isfinite(vectors).all() or not vectors.any(axis=1).all():
        raise EncoderError(
            f"{encoder.model} with weights {encoder.weights} gives NaN, infinite or all-zero "
            "vectors for drawn images: the weights are damaged, or belong to another network"
        )
    return replace(encoder, probes=vectors.astype("<f4").tobytes())
