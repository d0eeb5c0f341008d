"""Turns a checkpoint of train.py into the weights file of the package, and its card's digest.

    python export.py RUN/last.npz SHARDS ../src/pomona/building/keras/drawn

Two things are computed from drawn pictures at 224 pixels, the size that the encoder is used at:

- batch normalization's moments, since training at smaller sizes leaves others behind;
- the last convolution: it whitens what the last block gives. Unwhitened, one direction holds most
  of the variance, and decides which neighbour is the nearest. RESULTS.md has what that gives.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import h5py
import numpy as np
from batches import Shards
from native import Network

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_SIDE = 224
_BATCH = 16
_SHRINKAGE = 1e-4  # of the largest variance
_SCALE = 0.5  # keeps what a pixel gives well below 6


def recalibrated(
    network: Network, arrays: list[Floats], shards: Shards, batches: int, seed: int
) -> list[Floats]:
    """Take moving averages from drawn pictures; the other arrays stay."""
    parameters = network.from_keras(arrays)
    for done in range(batches):
        images = _images(shards, [seed, 6, done])
        # The running mean of all batches: the first one replaces what was there.
        network.forward(parameters, images, training=True, momentum=done / (done + 1))
    return network.to_keras(parameters)


def whitened(
    network: Network, arrays: list[Floats], shards: Shards, batches: int, seed: int
) -> list[Floats]:
    """Put a whitening of the last block's pooled output in place of the last convolution.

    ReLU6 lets no negative number through, so every direction is there twice, with both signs. 320
    directions with both signs are 640 of the 1,280 numbers; the others are the same, rotated.
    """
    parameters = network.from_keras(arrays)
    pooled = []
    for done in range(batches):
        network.forward(parameters, _images(shards, [seed, 7, done]), training=False)
        pooled.append(network.last_block())
    sample = np.concatenate(pooled).astype(np.float64)  # (N, 320)
    mean = sample.mean(0)
    size, directions = np.linalg.eigh(np.cov((sample - mean).T))
    size = np.maximum(size, 0) + _SHRINKAGE * size.max()
    whitening = directions / np.sqrt(size)
    random = np.random.default_rng([seed, 8]).normal(size=whitening.shape)
    rotated = whitening @ np.linalg.qr(random)[0]
    kernel = np.concatenate([whitening, -whitening, rotated, -rotated], axis=1) * _SCALE
    ones = np.ones(kernel.shape[1])
    # Keras' epsilon is 1e-3: with this variance the normalization leaves the numbers as they are.
    closing = [kernel[None, None], ones, -mean @ kernel, 0 * ones, ones - 1e-3]
    return [*arrays[:-5], *(array.astype(np.float32) for array in closing)]


def _images(shards: Shards, seed: list[int]) -> Floats:
    rng = np.random.default_rng(seed)
    return np.stack([_whole(shards, rng) for _ in range(_BATCH)])


def _whole(shards: Shards, rng: np.random.Generator) -> Floats:
    picture = shards.picture(int(rng.integers(shards.classes)), int(rng.integers(shards.pictures)))
    grown = cv2.resize(picture, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
    return grown.astype(np.float32) / 127.5 - 1


def write(path: Path, arrays: list[Floats]) -> str:
    """Write float16 in Keras' own layout; returns the file's SHA-256."""
    import keras

    from pomona.building.keras.weight_matching import layer_shapes

    network = keras.applications.MobileNetV2(
        include_top=False, weights=None, pooling="avg", input_shape=(_SIDE, _SIDE, 3)
    )
    left = iter(arrays)
    with h5py.File(path, "w", libver="latest") as file:
        for shape, _ in layer_shapes(network):
            group = file.create_group(f"{shape.key}/vars")
            group.attrs["name"] = shape.name
            for index, (name, wanted) in enumerate(shape.arrays):
                array = next(left)
                if array.shape != wanted:
                    raise SystemExit(f"{shape.name}/{name} needs {wanted}, got {array.shape}")
                group[str(index)] = array.astype(np.float16)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Export."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("shards", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recalibrate", type=int, default=12, metavar="BATCHES")
    parser.add_argument("--whiten", type=int, default=64, metavar="BATCHES", help="0: leave it")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with np.load(asked.checkpoint) as kept:
        count = sum(name.startswith("network_") for name in kept)
        arrays = [kept[f"network_{i}"] for i in range(count)]
        step = int(kept["step"])
    shards, network = Shards(asked.shards), Network(_BATCH, _SIDE)
    arrays = recalibrated(network, arrays, shards, asked.recalibrate, asked.seed)
    if asked.whiten:
        arrays = whitened(network, arrays, shards, asked.whiten, asked.seed)
    asked.folder.mkdir(parents=True, exist_ok=True)
    path = asked.folder / "mobilenet_v2.weights.h5"
    card = {"model": "mobilenet_v2", "file": path.name, "sha256": write(path, arrays), "step": step}
    (asked.folder / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card), f"{path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
