"""Keras on its OpenVINO backend, in a process where nothing else has imported it.

Only the export of a SavedModel uses TensorFlow instead.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pomona.building.graph.tensorflow_resize import resize_as_tensorflow
from pomona.errors import EncoderError
from pomona.runtime.openvino import import_openvino

__all__ = ["compute_with_tensorflow", "exported", "import_keras", "weights_digest"]

_backend = "openvino"


def compute_with_tensorflow() -> None:
    """Use Keras on TensorFlow in this process from now on."""
    global _backend  # noqa: PLW0603 - Keras has one backend in a process
    _backend = "tensorflow"


def import_keras() -> Any:
    """Import Keras, set to TensorFlow's layout.

    Raises:
        EncoderError: Keras is already loaded with another backend.
    """
    os.environ["KERAS_BACKEND"] = _backend
    import_openvino()  # without telemetry: Keras' backend would import it with
    import keras

    if keras.config.backend() != _backend:
        raise EncoderError(
            f"Keras is already loaded here with its {keras.config.backend()} backend: "
            "build encoders with pomona.build_encoder, which uses a separate process"
        )
    # Most models are channels last; `pomona.building.graph.transposes` makes them fast. Some of
    # Keras' own networks refuse the other layout, and dense layers work on the last axis.
    keras.config.set_image_data_format("channels_last")
    return keras


def exported(network: Any) -> Any:
    """Turn a Keras network into an `openvino.Model`."""
    openvino = import_openvino()
    with tempfile.TemporaryDirectory(prefix="pomona-") as folder:
        path = Path(folder, "exported.xml")
        network.export(str(path), format="openvino", verbose=False)
        # Read all bytes: the file is deleted afterwards, and read_model would map it.
        constants = np.fromfile(path.with_suffix(".bin"), np.uint8)
        model = openvino.Core().read_model(path.read_bytes(), openvino.Tensor(constants))
    resize_as_tensorflow(model)
    return model


def weights_digest(weights: Iterable[Any]) -> str:
    """Return the SHA-256 (hex) of the weights' kinds, shapes and float32 values, in their order."""
    digest = hashlib.sha256()
    for weight in weights:
        digest.update(f"{weight.name} {tuple(weight.shape)}\n".encode())
        digest.update(np.ascontiguousarray(weight.numpy(), dtype="<f4").tobytes())
    return digest.hexdigest()
