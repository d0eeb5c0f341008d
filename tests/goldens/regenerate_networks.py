"""Computes the vector of one picture for every known network, with Keras on TensorFlow in float32.

    python tests/goldens/regenerate_networks.py            # all of them: an hour and 12 GB
    python tests/goldens/regenerate_networks.py mobilenet  # only this one

Run it in the environment of tests/goldens/README.md. Weights are those of `--weights untrained:0`.
The preprocessing is Keras' own (`preprocess_input`, or the layers built into the network), so the
comparison verifies size, mean, standard deviation and channel order of the cards.
"""

from __future__ import annotations

import importlib
import io
import sys
from pathlib import Path
from unittest import mock

import keras
import numpy as np
from keras.src.applications import efficientnet
from keras.src.models.functional import Functional
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "src"))

from pomona.building.random_weights import seeded_weights  # noqa: E402 - needs the path set above
from pomona.encoder.networks import CARDS, NetworkCard  # noqa: E402

PICTURE = "png_ball_in_the_dark"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def network(card: NetworkCard) -> tuple[keras.Model, int]:
    """The network as users load it, and how many of its first weights are preprocessing."""
    size = card.preprocessing
    function = getattr(keras.applications, card.keras_class)
    options = {k: v for k, v in card.options.items() if k != "include_preprocessing"}
    options |= {"include_top": False, "pooling": "avg"}
    options |= {"input_shape": (size.height, size.width, 3)}
    if card.family.first_layer is None:
        return function(weights=None, **options), 0
    # The published weights include a second Rescaling: build it, but load nothing.
    nothing = mock.patch.object(Functional, "load_weights")
    with nothing, mock.patch.object(efficientnet.file_utils, "get_file", return_value=""):
        built = function(weights="imagenet", **options)
    normalization = built.get_layer("normalization")
    mean, deviation = np.float32(IMAGENET)
    normalization.set_weights([mean, deviation, np.int32(0)])
    normalization.finalize_state()
    return built, 3


def features(card: NetworkCard, picture: Image.Image) -> np.ndarray:
    keras.backend.clear_session()
    built, first = network(card)
    weights = built.weights[first:]
    shapes = [(weight.path, tuple(weight.shape)) for weight in weights]
    for weight, values in zip(weights, seeded_weights(shapes, 0, card.family.closing), strict=True):
        weight.assign(values)
    size = (card.preprocessing.width, card.preprocessing.height)
    pixels = np.asarray(picture.resize(size, Image.Resampling.BICUBIC), np.float32)[None]
    if "include_preprocessing" not in card.options:
        module = importlib.import_module(getattr(keras.applications, card.keras_class).__module__)
        pixels = module.preprocess_input(pixels)
    return np.asarray(built(pixels, training=False))[0]


def main() -> None:
    content = np.load(HERE / "mobilenet_v2_seed7.npz")[PICTURE].tobytes()
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    names = sys.argv[1:] or list(CARDS)
    stored = HERE / "networks_seed0.npz"
    vectors = dict(np.load(stored)) if sys.argv[1:] else {}
    for name in names:
        vectors[name] = features(CARDS[name], picture)
        print(
            f"{name:22} {vectors[name].shape[0]:5} numbers, largest {vectors[name].max():.3g}",
            flush=True,
        )
    np.savez_compressed(stored, **vectors)


if __name__ == "__main__":
    main()
