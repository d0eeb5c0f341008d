"""Builds an encoder with Keras on its OpenVINO backend, in a process of its own.

    python -m pomona.building.keras_build   < request.json   > answer.json

A process of its own, because Keras takes its backend at import: a notebook that already uses Keras
on TensorFlow keeps it, and the memory of the building goes with the process.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pomona.building.seeded import parse_seed, seeded_weights
from pomona.building.weights import LayerShape, classes_of_top, match_weights, read_weights
from pomona.encoder.blob import Encoder
from pomona.encoder.cards import NetworkCard, find_card
from pomona.errors import EncoderError
from pomona.runtime.openvino import OpenVinoRuntime
from pomona.runtime.probes import probe_vectors

if TYPE_CHECKING:
    from pomona.preprocess import Preprocessing

__all__ = ["answer", "build", "describe"]

_DOWNLOAD_TIMEOUT_S = 30.0


def build(model: str, weights: str) -> Encoder:
    """Build an encoder.

    Args:
        model: a name of `pomona.encoder.cards`.
        weights: `imagenet`, `untrained:SEED`, or the path of a Keras weights file.

    Raises:
        EncoderError: unknown model, weights that cannot be had, read or fitted.
    """
    card = find_card(model)
    network = _network(card, weights)
    graph, constants = _export(network, card.preprocessing)
    return with_probes(
        Encoder(
            model=card.name,
            architecture=card.architecture,
            weights=_weights_name(weights),
            weights_sha256=_digest(network.weights),
            preprocessing=card.preprocessing,
            output=network.layers[-1].name.rstrip("_0123456789"),
            dimension=card.dimension,
            precision="f32",
            graph=graph,
            constants=constants,
        )
    )


def with_probes(encoder: Encoder) -> Encoder:
    """Compute the vectors that workers will be held against."""
    import numpy as np

    vectors = probe_vectors(OpenVinoRuntime(encoder))
    if not np.isfinite(vectors).all() or not vectors.any(axis=1).all():
        raise EncoderError(
            f"{encoder.model} with weights {encoder.weights} gives NaN, infinite or all-zero "
            "vectors for drawn images: the weights are damaged, or belong to another network"
        )
    return replace(encoder, probes=vectors.astype("<f4").tobytes())


def describe(model: str) -> dict[str, Any]:
    """Layers, output shapes (channels last, without the batch) and parameter counts of a network.

    Raises:
        EncoderError: unknown model.
    """
    card = find_card(model)
    network = _keras_network(card)
    return {
        "layers": [
            {
                "name": layer.name,
                "class": type(layer).__name__,
                "shape": _channels_last(layer.output.shape[1:]),
                "parameters": layer.count_params(),
            }
            for layer in network.layers
        ],
        "parameters": network.count_params(),
    }


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Do what a request asks; the answer says how it went."""
    try:
        if request["do"] == "describe":
            return describe(request["model"])
        encoder = build(request["model"], request["weights"])
        encoder.save(request["path"])
    except EncoderError as error:
        return {"error": str(error)}
    return {"fingerprint": encoder.fingerprint}


def _keras() -> Any:
    os.environ["KERAS_BACKEND"] = "openvino"
    import keras

    if keras.config.backend() != "openvino":
        raise EncoderError(
            f"Keras is already loaded here with its {keras.config.backend()} backend: "
            "build encoders with pomona.build_encoder, which uses a process of its own"
        )
    # The channels-last export keeps 260 transposes in MobileNetV2 and runs 3 times slower.
    keras.config.set_image_data_format("channels_first")
    return keras


def _keras_network(card: NetworkCard, weights: str | None = None) -> Any:
    """The network up to its feature vector."""
    return _application(card, include_top=False, pooling="avg", weights=weights)


def _application(card: NetworkCard, **options: Any) -> Any:
    keras = _keras()
    keras.backend.clear_session()
    shape = (3, card.preprocessing.height, card.preprocessing.width)
    return getattr(keras.applications, card.keras_class)(input_shape=shape, **options)


def _network(card: NetworkCard, weights: str) -> Any:
    if weights == "imagenet":
        return _with_imagenet(card)
    network = _keras_network(card)
    if weights.startswith("untrained:"):
        seed = parse_seed(weights)
        shapes = [(weight.path, tuple(weight.shape)) for weight in network.weights]
        network.set_weights(seeded_weights(shapes, seed))
    else:
        _fill(network, card, Path(weights))
    return network


def _with_imagenet(card: NetworkCard) -> Any:
    socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT_S)
    try:
        return _keras_network(card, weights="imagenet")
    except Exception as error:  # Keras' download raises a bare Exception
        raise EncoderError(
            f"the ImageNet weights of {card.name} could not be downloaded "
            f"({' '.join(str(error).split())[:160]}): give a Keras weights file with "
            "--weights FILE, or try Pomona with --weights untrained:0"
        ) from error


def _fill(network: Any, card: NetworkCard, path: Path) -> None:
    found = read_weights(path)
    classes = classes_of_top(found, card.dimension)
    # The network with its classification layer has the same layers in the same order, so its
    # arrays are matched with it, and those of the last layer are then left out.
    reference = (
        _application(card, include_top=True, weights=None, classes=classes) if classes else network
    )
    needed = [_layer_shape(layer) for layer in reference.layers if layer.weights]
    arrays = match_weights(needed, found, path.name, card.name)
    layers = [layer for layer in network.layers if layer.weights]
    for layer, values in zip(layers, arrays, strict=False):
        layer.set_weights(values)


def _layer_shape(layer: Any) -> LayerShape:
    arrays = tuple((weight.name, tuple(weight.shape)) for weight in layer.weights)
    return LayerShape(type(layer).__name__, layer.name, arrays)


def _weights_name(weights: str) -> str:
    return (
        weights
        if weights == "imagenet" or weights.startswith("untrained:")
        else (Path(weights).name)
    )


def _digest(weights: list[Any]) -> str:
    """SHA-256 over the weights' kinds, shapes and float32 values, in the network's order."""
    import numpy as np

    digest = hashlib.sha256()
    for weight in weights:
        digest.update(f"{weight.name} {tuple(weight.shape)}\n".encode())
        digest.update(np.ascontiguousarray(weight.numpy(), dtype="<f4").tobytes())
    return digest.hexdigest()


def _export(network: Any, preprocessing: Preprocessing) -> tuple[bytes, bytes]:
    """Export to OpenVINO, with the preprocessing's arithmetic in front: uint8 pixels go in."""
    import openvino
    from openvino.preprocess import PrePostProcessor

    with tempfile.TemporaryDirectory(prefix="pomona-") as folder:
        exported = Path(folder, "exported.xml")
        network.export(str(exported), format="openvino", verbose=False)
        model = openvino.Core().read_model(exported)
        model.reshape([1, 3, preprocessing.height, preprocessing.width])
        processor = PrePostProcessor(model)
        pixels = processor.input()
        pixels.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
        pixels.model().set_layout(openvino.Layout("NCHW"))
        steps = pixels.preprocess().convert_element_type(openvino.Type.f32)
        if preprocessing.channel_order == "BGR":
            steps.reverse_channels()
        steps.mean(list(preprocessing.mean)).scale(list(preprocessing.std))
        graph, constants = Path(folder, "encoder.xml"), Path(folder, "encoder.bin")
        openvino.serialize(processor.build(), graph, constants)
        return graph.read_bytes(), constants.read_bytes()


def _channels_last(shape: tuple[int, ...]) -> list[int]:
    return [*shape[1:], shape[0]] if len(shape) == 3 else list(shape)


def _main() -> None:
    request = json.load(sys.stdin)
    # Keras and its download report on stdout: the answer must be alone there.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    json.dump(answer(request), out)
    out.close()


if __name__ == "__main__":
    _main()
