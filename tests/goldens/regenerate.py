"""Computes mobilenet_v2_seed7.npz with Keras on TensorFlow: see README.md in this folder.

Of Pomona, it uses only the seeded weights, so the vectors verify Pomona's preprocessing, graph
and arithmetic independently.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "src"))

from pomona.building.random_weights import seeded_weights  # noqa: E402 - needs the path set above

SEED = 7
INPUT = (224, 224)

# Pictures use integer arithmetic only, so every machine draws the same pixels.
Picture = Callable[[np.ndarray, np.ndarray], np.ndarray]  # x (1, W), y (H, 1) -> (H, W, 3) int64


def constant(red: int, green: int, blue: int) -> Picture:
    return lambda x, y: (x + y)[..., None] * 0 + [red, green, blue]


def ramps(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Red grows to the right, green downwards, blue along the diagonal."""
    right, down = x * 255 // x.max(), y * 255 // y.max()
    return np.stack(np.broadcast_arrays(right, down, (right + down) // 2), axis=-1)


def checkers(cell: int) -> Picture:
    return lambda x, y: ((x // cell + y // cell) % 2)[..., None] * [215, 160, 90] + 30


def stripes(period: int) -> Picture:
    """Slanted stripes, which a resize without a low-pass filter turns into moiré."""
    return lambda x, y: ((2 * x + y) % period * 255 // (period - 1))[..., None] * [4, 3, 1] // 4


def mosaic(cell: int) -> Picture:
    """Coloured cells, from a multiplicative hash of their position."""

    def draw(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        place = (x // cell) * 374761393 + (y // cell) * 668265263
        mixed = (place ^ (place >> 13)) * 1274126177 & 0xFFFFFFFF
        return np.stack([mixed >> 24, mixed >> 16, mixed >> 8], axis=-1) & 0xFF

    return draw


def ball(background: int, colour: tuple[int, int, int]) -> Picture:
    """A ball lit from the upper left: the closest to a fruit that integer arithmetic allows."""

    def draw(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        width, height = x.size, y.size
        radius = min(width, height) * 2 // 5
        from_centre = (x - width // 2) ** 2 + (y - height // 2) ** 2
        from_light = (x - width * 2 // 5) ** 2 + (y - height * 2 // 5) ** 2
        light = np.maximum(256 - from_light * 128 // radius**2, 40)
        ball = light[..., None] * colour // 256
        return np.where((from_centre < radius**2)[..., None], ball, background)

    return draw


PICTURES: dict[str, tuple[tuple[int, int], Picture]] = {  # name -> (width, height), pixels
    "black": ((224, 224), constant(0, 0, 0)),
    "white_1x1": ((1, 1), constant(255, 255, 255)),
    "ramps": ((224, 224), ramps),
    "stripes_tall": ((60, 300), stripes(40)),
    "checkers_fine": ((224, 224), checkers(2)),
    "checkers_coarse": ((97, 131), checkers(16)),
    "stripes": ((300, 200), stripes(9)),
    "mosaic": ((100, 100), mosaic(6)),
    "mosaic_wide": ((640, 97), mosaic(20)),
    "red_ball": ((100, 100), ball(255, (220, 30, 25))),
    "green_ball": ((131, 97), ball(255, (90, 190, 40))),
    "ball_in_the_dark": ((448, 448), ball(10, (240, 200, 60))),
}


def drawn(size: tuple[int, int], picture: Picture) -> np.ndarray:
    """(H, W, 3) uint8."""
    width, height = size
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    return np.broadcast_to(picture(x, y), (height, width, 3)).astype(np.uint8)


def png(pixels: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def features(images: list[np.ndarray]) -> np.ndarray:
    """(N, 1280) float32: resized and encoded as in the reference notebook."""
    network = keras.applications.MobileNetV2(
        include_top=False, pooling="avg", weights=None, input_shape=(*INPUT, 3)
    )
    shapes = [(weight.path, tuple(weight.shape)) for weight in network.weights]
    network.set_weights(seeded_weights(shapes, SEED))
    resized = [Image.fromarray(image).resize(INPUT, Image.Resampling.BICUBIC) for image in images]
    batch = np.stack([np.asarray(image, np.float32) for image in resized])
    return network.predict_on_batch(keras.applications.mobilenet_v2.preprocess_input(batch))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", nargs="?", default=HERE / "mobilenet_v2_seed7.npz", type=Path)
    output = parser.parse_args().output
    if keras.config.backend() != "tensorflow":
        sys.exit(f"Keras runs on {keras.config.backend()}: set KERAS_BACKEND=tensorflow")
    images = [drawn(*picture) for picture in PICTURES.values()]
    np.savez_compressed(
        output,
        seed=np.int64(SEED),
        names=np.array(list(PICTURES)),
        features=features(images),
        **{f"png_{name}": png(image) for name, image in zip(PICTURES, images, strict=True)},
    )


if __name__ == "__main__":
    main()
