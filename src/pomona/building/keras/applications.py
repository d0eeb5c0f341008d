"""Builds encoders from networks that Keras knows by name, and weights."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pomona.building.file_digest import as_text
from pomona.building.graph.endpoints import (
    did_you_mean,
    encoder_of_graph,
    prepend_preprocessing,
)
from pomona.building.keras.backend import exported, import_keras, weights_digest
from pomona.building.keras.weight_files import Arrays, read_weights
from pomona.building.keras.weight_matching import LayerShape, layer_shapes, match_weights
from pomona.building.network_settings import NetworkSettings
from pomona.building.random_weights import parse_seed, seeded_weights
from pomona.encoder.encoder import Encoder
from pomona.encoder.networks import NetworkCard, find_card
from pomona.errors import EncoderError
from pomona.messages import one_line

__all__ = ["build", "describe", "feature_network"]

_DOWNLOAD_TIMEOUT_S = 30.0

Size = tuple[int, int]  # height and width in pixels


def build(model: str, weights: str, settings: NetworkSettings | None = None) -> Encoder:
    """Build an encoder.

    Args:
        model: a name of `pomona.encoder.networks`.
        weights: `imagenet`, `untrained:SEED`, or the path of a Keras weights file.
        settings: settings that differ from the card.

    Raises:
        EncoderError: the model is unknown; or the weights cannot be downloaded or read, or do not
            fit.
    """
    card, settings = find_card(model), settings or NetworkSettings()
    preprocessing = settings.for_named_network(card)
    size = preprocessing.height, preprocessing.width
    network, output = feature_network(card, weights, size, settings.layer)
    graph = prepend_preprocessing(exported(network), preprocessing, "NHWC")
    return encoder_of_graph(
        graph,
        settings,
        model=card.name,
        architecture=card.architecture,
        weights=_weights_name(weights),
        weights_sha256=weights_digest(network.weights),
        preprocessing=preprocessing,
        output=output,
        precision="f32",
    )


def feature_network(
    card: NetworkCard, weights: str, size: Size, layer: str | None
) -> tuple[Any, str]:
    """Build the network up to its feature vector.

    Args:
        card: the network.
        weights: as for `build`.
        size: of the input.
        layer: the layer whose output is the vector; None for the pooling at the end.

    Returns:
        The `keras.Model`, and the name of that layer.

    Raises:
        EncoderError: as for `build`.
    """
    network = _network(card, weights, size)
    output = str(network.layers[-1].name.rstrip("_0123456789"))
    if layer in (None, output):
        return network, output
    return _up_to(network, layer), layer


def describe(model: str) -> dict[str, Any]:
    """Return layers, output shapes (without the batch) and parameter counts of a network.

    Raises:
        EncoderError: the model is unknown.
    """
    card = find_card(model)
    network = _without_top(card)
    return {
        "layers": [
            {
                "name": layer.name,
                "class": type(layer).__name__,
                "shape": list(layer.output.shape[1:]),
                "parameters": layer.count_params(),
            }
            for layer in network.layers
        ],
        "parameters": network.count_params(),
    }


def _without_top(card: NetworkCard, size: Size | None = None, weights: str | None = None) -> Any:
    """Build the network up to its feature vector.

    Raises:
        EncoderError: Keras cannot build it for images of this size.
    """
    keras = import_keras()
    keras.backend.clear_session()  # restarts the numbers in names at 1
    function = getattr(keras.applications, str(card.keras_class))
    height, width = size or _own_size(card)
    try:
        return function(
            input_shape=(height, width, 3),
            include_top=False,
            pooling="avg",
            weights=weights,
            **card.options,
        )
    except ValueError as error:
        if weights is not None:
            raise
        raise EncoderError(
            f"{card.name} cannot be built for images of {height} x {width} pixels: "
            f"{one_line(error, 160)}"
        ) from error


def _own_size(card: NetworkCard) -> Size:
    return card.preprocessing.height, card.preprocessing.width


def _network(card: NetworkCard, weights: str, size: Size | None = None) -> Any:
    """Build the network with its weights, ready to be exported."""
    if weights == "imagenet":
        return _cut(_with_imagenet(card, size), card)
    network = _without_top(card, size)
    if not weights.startswith("untrained:"):
        _fill(network, card, Path(weights))
        return _cut(network, card)
    network = _cut(network, card)
    shapes = [(weight.path, tuple(weight.shape)) for weight in network.weights]
    network.set_weights(seeded_weights(shapes, parse_seed(weights), card.family.closing))
    return network


def _cut(network: Any, card: NetworkCard) -> Any:
    """Remove the preprocessing that is built into the network: Pomona's graph has it."""
    if card.family.first_layer is None:
        return network
    keras = import_keras()
    return keras.Model(network.get_layer(card.family.first_layer).input, network.output)


def _up_to(network: Any, name: str) -> Any:
    """Remove everything after a layer."""
    names = [layer.name for layer in network.layers[1:]]
    if name not in names:
        raise EncoderError(f"the network has no layer {name!r}{did_you_mean(name, names)}")
    return import_keras().Model(network.input, network.get_layer(name).output)


def _with_imagenet(card: NetworkCard, size: Size | None) -> Any:
    _without_top(card, size)  # raises errors about the size before anything is downloaded
    socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT_S)
    try:
        return _without_top(card, size, weights="imagenet")
    except Exception as error:  # Keras' download raises a bare Exception
        raise EncoderError(
            f"the ImageNet weights of {card.name} could not be downloaded "
            f"({one_line(error, 160)}): give `model` efficientnet_lite0, whose weights come from a "
            "Python package, or a Keras weights file as `weights`"
        ) from error


def _fill(network: Any, card: NetworkCard, path: Path) -> None:
    shapes, layers = zip(*layer_shapes(network), strict=True)
    arrays = match_weights(shapes, read_weights(path), path.name, card.name)
    _check_normalization(shapes, arrays, path.name, card)
    for layer, values in zip(layers, arrays, strict=True):
        layer.set_weights(values)


def _check_normalization(
    shapes: Sequence[LayerShape], arrays: Sequence[Arrays], file: str, card: NetworkCard
) -> None:
    """Check that a Normalization that will be removed does the arithmetic of the card.

    EfficientNet's published files have standard deviations instead of variances, which a second
    Rescaling compensates (tensorflow issue 49930).
    """
    for shape, values in zip(shapes, arrays, strict=True):
        if [name for name, _ in shape.arrays] == ["mean", "variance", "count"]:
            mean, variance = values[0], values[1]
            actual = np.concatenate([mean * 255, variance * 255])
            if not np.allclose(
                actual, [*card.preprocessing.mean, *card.preprocessing.std], rtol=1e-3
            ):
                raise EncoderError(
                    f"{file} normalizes its input with mean {mean} and variance {variance}, but "
                    f"the card of {card.name} has ImageNet's: build the encoder from the file of "
                    "the whole model instead of the network's name"
                )


def _weights_name(weights: str) -> str:
    is_name = weights == "imagenet" or weights.startswith("untrained:")
    return weights if is_name else as_text(Path(weights).name)
