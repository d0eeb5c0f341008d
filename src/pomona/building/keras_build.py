"""Builds an encoder with Keras on its OpenVINO backend, in a process of its own.

    python -m pomona.building.keras_build   < request.json   > answer.json

A process of its own, because Keras takes its backend at import: a notebook that already uses Keras
on TensorFlow keeps it, and the memory of the building goes with the process.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import socket
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.building.graph import serialized, with_probes
from pomona.building.seeded import parse_seed, seeded_weights
from pomona.building.weights import (
    Arrays,
    LayerShape,
    classes_of_top,
    layer_shapes,
    match_weights,
    read_weights,
)
from pomona.encoder.blob import Encoder
from pomona.encoder.cards import NetworkCard, find_card
from pomona.errors import EncoderError
from pomona.runtime.openvino import import_openvino

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    graph, constants = _export(network, card)
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


def describe(model: str) -> dict[str, Any]:
    """Layers, output shapes (channels last, without the batch) and parameter counts of a network.

    Raises:
        EncoderError: unknown model.
    """
    card = find_card(model)
    network = _without_top(card)
    return {
        "layers": [
            {
                "name": layer.name,
                "class": type(layer).__name__,
                "shape": _shape(layer.output.shape[1:], card),
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


def _keras(data_format: str = "channels_first") -> Any:
    os.environ["KERAS_BACKEND"] = "openvino"
    import_openvino()  # without telemetry: Keras' backend would import it with
    import keras

    if keras.config.backend() != "openvino":
        raise EncoderError(
            f"Keras is already loaded here with its {keras.config.backend()} backend: "
            "build encoders with pomona.build_encoder, which uses a process of its own"
        )
    # The channels-last export keeps 260 transposes in MobileNetV2 and runs 2.5 times slower.
    keras.config.set_image_data_format(data_format)
    return keras


def _application(card: NetworkCard, **options: Any) -> Any:
    """Build the network as `keras.applications` has it, in the layout that Keras can build."""
    last = card.family.layout != "channels_first"
    keras = _keras("channels_last" if last else "channels_first")
    keras.backend.clear_session()
    size = (card.preprocessing.height, card.preprocessing.width)
    shape = (*size, 3) if last else (3, *size)
    function = getattr(keras.applications, card.keras_class)
    return function(input_shape=shape, **card.options, **options)


def _without_top(card: NetworkCard, weights: str | None = None) -> Any:
    """Build the network up to its feature vector."""
    return _application(card, include_top=False, pooling="avg", weights=weights)


def _network(card: NetworkCard, weights: str) -> Any:
    """Build the network with its weights, ready to be exported."""
    if weights.startswith("untrained:"):
        network = _cut(_without_top(card), card)
        shapes = [(weight.path, tuple(weight.shape)) for weight in network.weights]
        network.set_weights(seeded_weights(shapes, parse_seed(weights), card.family.closing))
    elif weights == "imagenet":
        network = _cut(_with_imagenet(card), card)
    else:
        network = _without_top(card)
        _fill(network, card, Path(weights))
        network = _cut(network, card)
    return _channels_first(network) if card.family.layout == "rewritten" else network


def _cut(network: Any, card: NetworkCard) -> Any:
    """Leave out the preprocessing that is built into the network: Pomona's graph has it."""
    if card.family.first_layer is None:
        return network
    return _keras().Model(network.get_layer(card.family.first_layer).input, network.output)


def _channels_first(network: Any) -> Any:
    """Turn a network around that Keras builds channels last only, through its configuration."""
    _keras("channels_first")
    config = copy.deepcopy(network.get_config())
    for layer in config["layers"]:
        settings = layer["config"]
        if layer["class_name"] == "InputLayer":
            batch, height, width, channels = settings["batch_shape"]
            settings["batch_shape"] = [batch, channels, height, width]
        if settings.get("data_format") == "channels_last":
            settings["data_format"] = "channels_first"
        if layer["class_name"] in ("BatchNormalization", "Concatenate"):
            settings["axis"] = 1
        layer.pop("build_config", None)
    turned = type(network).from_config(config)
    turned.set_weights(network.get_weights())
    return turned


def _with_imagenet(card: NetworkCard) -> Any:
    socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT_S)
    try:
        return _without_top(card, weights="imagenet")
    except Exception as error:  # Keras' download raises a bare Exception
        raise EncoderError(
            f"the ImageNet weights of {card.name} could not be downloaded "
            f"({' '.join(str(error).split())[:160]}): give a Keras weights file with "
            "--weights FILE, or try Pomona with --weights untrained:0"
        ) from error


def _fill(network: Any, card: NetworkCard, path: Path) -> None:
    found = read_weights(path)
    shapes, layers = zip(*layer_shapes(network), strict=True)
    classes = classes_of_top(shapes, found)
    # The network with its top has the same layers in the same order, and then the top's: arrays
    # are matched with all of it, and those of the top are left out.
    whole = shapes
    if classes:
        with_top = _application(card, include_top=True, weights=None, classes=classes)
        whole = tuple(shape for shape, _ in layer_shapes(with_top))
    arrays = match_weights(whole, found, path.name, card.name)
    _check_normalization(shapes, arrays, path.name, card)
    for layer, values in zip(layers, arrays, strict=False):
        layer.set_weights(values)


def _check_normalization(
    shapes: Sequence[LayerShape], arrays: Sequence[Arrays], file: str, card: NetworkCard
) -> None:
    """Make sure that a Normalization that will be cut off is the one that the card stands for.

    EfficientNet's published files hold the standard deviations in place of the variances, which a
    second Rescaling makes up for (tensorflow issue 49930).
    """
    for shape, values in zip(shapes, arrays, strict=False):
        if [name for name, _ in shape.arrays] == ["mean", "variance", "count"]:
            mean, variance = values[0], values[1]
            told = np.concatenate([mean * 255, variance * 255])
            if not np.allclose(
                told, [*card.preprocessing.mean, *card.preprocessing.std], rtol=1e-3
            ):
                raise EncoderError(
                    f"{file} normalizes its input in a way of its own (mean {mean}, variance "
                    f"{variance}), and the card of {card.name} has ImageNet's: build the encoder "
                    "from the published weights, or from a model without its preprocessing"
                )


def _weights_name(weights: str) -> str:
    return (
        weights
        if weights == "imagenet" or weights.startswith("untrained:")
        else (Path(weights).name)
    )


def _digest(weights: list[Any]) -> str:
    """SHA-256 over the weights' kinds, shapes and float32 values, in the network's order."""
    digest = hashlib.sha256()
    for weight in weights:
        digest.update(f"{weight.name} {tuple(weight.shape)}\n".encode())
        digest.update(np.ascontiguousarray(weight.numpy(), dtype="<f4").tobytes())
    return digest.hexdigest()


def _export(network: Any, card: NetworkCard) -> tuple[bytes, bytes]:
    """Export to OpenVINO, with the preprocessing's arithmetic in front: uint8 pixels go in."""
    openvino = import_openvino()
    from openvino.preprocess import PrePostProcessor

    with tempfile.TemporaryDirectory(prefix="pomona-") as folder:
        exported = Path(folder, "exported.xml")
        network.export(str(exported), format="openvino", verbose=False)
        model = openvino.Core().read_model(exported)
        spec = card.preprocessing
        last = card.family.layout == "channels_last"
        size = [spec.height, spec.width]
        model.reshape([1, *size, 3] if last else [1, 3, *size])
        processor = PrePostProcessor(model)
        pixels = processor.input()
        pixels.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
        pixels.model().set_layout(openvino.Layout("NHWC" if last else "NCHW"))
        steps = pixels.preprocess().convert_element_type(openvino.Type.f32)
        if spec.channel_order == "BGR":
            steps.reverse_channels()
        steps.mean(list(spec.mean)).scale(list(spec.std))
        return serialized(processor.build())


def _shape(shape: tuple[int, ...], card: NetworkCard) -> list[int]:
    """A layer's output shape, channels last."""
    first = card.family.layout == "channels_first" and len(shape) == 3
    return [*shape[1:], shape[0]] if first else list(shape)


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
