"""Turns a checkpoint of train.py into the weights file of the package, and its card's digest.

    python export.py RUN/last.npz SHARDS ../src/pomona/building/drawn

Batch normalization's moments are taken anew at 224 pixels, the size that the encoder is used at:
training at smaller sizes leaves others behind.
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


def recalibrated(arrays: list[Floats], shards: Shards, batches: int, seed: int) -> list[Floats]:
    """Take moving averages from drawn pictures at 224 pixels; the other arrays stay."""
    network = Network(_BATCH, _SIDE)
    parameters = network.from_keras(arrays)
    for done in range(batches):
        rng = np.random.default_rng([seed, 6, done])
        images = np.stack([_whole(shards, rng) for _ in range(_BATCH)])
        # The running mean of all batches: the first one replaces what was there.
        network.forward(parameters, images, training=True, momentum=done / (done + 1))
    return network.to_keras(parameters)


def _whole(shards: Shards, rng: np.random.Generator) -> Floats:
    picture = shards.picture(int(rng.integers(shards.classes)), int(rng.integers(shards.pictures)))
    grown = cv2.resize(picture, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
    return grown.astype(np.float32) / 127.5 - 1


def write(path: Path, arrays: list[Floats]) -> str:
    """Write float16 in Keras' own layout; returns the file's SHA-256."""
    import keras

    from pomona.building.weights import layer_shapes

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
    parser.add_argument("--batches", type=int, default=16, help="of 16 pictures, to recalibrate")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with np.load(asked.checkpoint) as kept:
        count = sum(name.startswith("network_") for name in kept)
        arrays = [kept[f"network_{i}"] for i in range(count)]
        step = int(kept["step"])
    arrays = recalibrated(arrays, Shards(asked.shards), asked.batches, asked.seed)
    asked.folder.mkdir(parents=True, exist_ok=True)
    path = asked.folder / "mobilenet_v2.weights.h5"
    card = {"model": "mobilenet_v2", "file": path.name, "sha256": write(path, arrays), "step": step}
    (asked.folder / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card), f"{path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
