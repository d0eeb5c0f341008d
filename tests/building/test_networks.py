"""Every known network, built with seeded weights and compared with Keras on TensorFlow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from places import TESTS
from pomona.building.keras import applications as keras_build
from pomona.building.keras.backend import import_keras
from pomona.encoder.networks import CARDS, find_card
from pomona.errors import EncoderError
from pomona.runtime.openvino import OpenVinoRuntime
from pomona.worker.decode import decode
from pomona.worker.resize import resize_to

GOLDENS = TESTS / "goldens"
PICTURE = "png_ball_in_the_dark"

# `make test` runs one of each kind: plain, with built-in preprocessing removed or cut off, with
# another width, and those that Keras builds only channels last.
QUICK = (
    "mobilenet",
    "mobilenet_v2_035",
    "mobilenet_v3_small",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_v2_b0",
    "convnext_tiny",
    "nasnet_mobile",
)
OF_KERAS = [name for name, card in CARDS.items() if card.keras_class]
ALL = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.networks) for name in OF_KERAS
]


@pytest.mark.parametrize("name", ALL)
def test_features_agree_with_keras_on_tensorflow(name: str) -> None:
    expected = np.load(GOLDENS / "networks_seed0.npz")[name]
    card = find_card(name)
    encoder = keras_build.build(name, "untrained:0")
    picture = decode(np.load(GOLDENS / "mobilenet_v2_seed7.npz")[PICTURE].tobytes())
    size = card.preprocessing
    pixels = resize_to(picture, size.height, size.width, size.resize)[None]
    computed = np.empty((1, card.dimension), np.float32)
    OpenVinoRuntime(encoder).predict(pixels, computed)
    assert expected.shape == (card.dimension,)
    assert np.abs(computed[0] - expected).max() < 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", ALL)
def test_the_card_has_the_parameter_count_of_the_network(name: str) -> None:
    network = keras_build._network(find_card(name), "untrained:0")
    assert network.count_params() == find_card(name).parameters


@pytest.mark.parametrize(
    "name",
    [
        "mobilenet",
        *(
            pytest.param(name, marks=pytest.mark.networks)
            for name in ("mobilenet_v3_small", "efficientnet_v2_b0")
        ),
    ],
)
def test_weights_with_a_top_give_the_encoder_of_weights_without(name: str, tmp_path: Path) -> None:
    card = find_card(name)
    keras = import_keras()
    function = getattr(keras.applications, card.keras_class)
    whole = function(input_shape=(224, 224, 3), weights=None, classes=5, **card.options)
    whole.save_weights(tmp_path / "top.weights.h5")
    bare = keras_build._without_top(card)
    layers = [layer for layer in bare.layers if layer.weights]
    for layer, other in zip(layers, (x for x in whole.layers if x.weights), strict=False):
        layer.set_weights(other.get_weights())
    bare.save_weights(tmp_path / "bare.weights.h5")
    with_top = keras_build.build(name, str(tmp_path / "top.weights.h5"))
    without = keras_build.build(name, str(tmp_path / "bare.weights.h5"))
    assert with_top.fingerprint == without.fingerprint


@pytest.mark.networks
def test_an_efficientnet_with_its_own_normalization_is_refused(tmp_path: Path) -> None:
    network = keras_build._without_top(find_card("efficientnet_b0"))
    network.save_weights(tmp_path / "own.weights.h5")
    with pytest.raises(EncoderError, match="normalizes its input with mean"):
        keras_build.build("efficientnet_b0", str(tmp_path / "own.weights.h5"))


def test_every_card_has_its_golden() -> None:
    assert set(np.load(GOLDENS / "networks_seed0.npz").files) == set(OF_KERAS)
