"""Builds a Keras network on TensorFlow, and writes it as a SavedModel, in a separate process.

python -m pomona.building.export.tensorflow_process   < request.json   > answer.json
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pomona.building.build_process import reply
from pomona.building.export.folder import check_vectors, probes
from pomona.building.keras import applications, model_files
from pomona.building.keras.backend import compute_with_tensorflow, import_keras, weights_digest
from pomona.building.network_settings import NetworkSettings
from pomona.encoder.encoder import Encoder
from pomona.encoder.networks import find_card
from pomona.errors import EncoderError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["answer"]

_SHORTEST = 1e-12  # as in `pomona.building.graph.endpoints`


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Write the SavedModel.

    Raises:
        EncoderError: the network or the weights are not those of the encoder, or TensorFlow
            computes other vectors.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    compute_with_tensorflow()
    encoder = Encoder.load(request["encoder"])
    network, layout = _network(encoder, request)
    import tensorflow as tf

    keras = import_keras()
    spec = encoder.preprocessing
    shape = (spec.height, spec.width, 3)
    pixel_type = tf.as_dtype(spec.pixel_type)
    vectors_of = _endpoint(tf, encoder, network, layout)

    def from_raw(raw: Any) -> Any:
        numbers = tf.io.decode_raw(raw, pixel_type)
        # This fails if a string has another length.
        return vectors_of(tf.reshape(numbers, (tf.shape(raw)[0], *shape)))

    archive = keras.export.ExportArchive()
    archive.track(network)
    pixels = tf.TensorSpec((None, *shape), pixel_type, name="pixels")
    archive.add_endpoint("serving_default", vectors_of, input_signature=[pixels])
    strings = tf.TensorSpec((None,), tf.string, name="raw")
    archive.add_endpoint("raw", from_raw, input_signature=[strings])
    archive.write_out(request["folder"], verbose=False)
    _check(tf, encoder, request["folder"])
    return {}


def _network(encoder: Encoder, request: dict[str, Any]) -> tuple[Any, str]:
    """Return the `keras.Model` and the layout of its image.

    Raises:
        EncoderError: it is not the network of the encoder, or has other weights.
    """
    spec = encoder.preprocessing
    if "file" in request:
        path = Path(request["file"])
        settings = NetworkSettings(layer=encoder.output, size=(spec.height, spec.width))
        found = model_files.feature_network(path, settings)
        network, layout = found.network, found.layout
        is_same = found.architecture == encoder.architecture
        digest = found.weights_sha256
    else:
        size = spec.height, spec.width
        network, output = applications.feature_network(
            find_card(encoder.model), request["weights"], size, encoder.output
        )
        layout, is_same, digest = "NHWC", output == encoder.output, weights_digest(network.weights)
    if not is_same or digest != encoder.weights_sha256:
        raise EncoderError(
            f"encoder {encoder.fingerprint[:12]} ({encoder.model}) was not built from "
            f"{request.get('file') or request['weights']}, which has "
            f"{'other weights' if is_same else 'another network'}: give the file that it was "
            "built from"
        )
    return network, layout


def _endpoint(
    tf: Any, encoder: Encoder, network: Any, layout: str
) -> Callable[[Any], dict[str, Any]]:
    """Return the function from pixels (N, height, width, 3) to vectors (N, D)."""
    spec = encoder.preprocessing

    def features(pixels: Any) -> dict[str, Any]:
        numbers = tf.cast(pixels, tf.float32)
        if spec.channel_order == "BGR":
            numbers = numbers[..., ::-1]
        if spec.is_grey:
            numbers = (numbers[..., :1] - spec.mean[0]) / spec.std[0]
        else:
            numbers = (numbers - spec.mean) / spec.std
        if layout == "NCHW":
            numbers = tf.transpose(numbers, (0, 3, 1, 2))
        vectors = tf.reshape(network(numbers, training=False), (-1, encoder.dimension))
        if encoder.normalized:
            vectors = tf.math.l2_normalize(vectors, axis=1, epsilon=_SHORTEST**2)
        return {"features": vectors}

    return features


def _check(tf: Any, encoder: Encoder, folder: str) -> None:
    """Compute the probes with what was written."""
    pixels, _ = probes(encoder)
    signatures = tf.saved_model.load(folder).signatures
    found = signatures["serving_default"](pixels=tf.constant(pixels))["features"]
    check_vectors(encoder, found.numpy(), "TensorFlow")
    raw = tf.constant([image.tobytes() for image in pixels])
    check_vectors(encoder, signatures["raw"](raw=raw)["features"].numpy(), "TensorFlow")


if __name__ == "__main__":
    reply(answer)
