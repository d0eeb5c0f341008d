"""Draws pictures ahead of training, to shards of uint8 pixels on disk.

    python draw.py SHARDS --classes 4000 --pictures 32 --processes 2

A class's pictures depend on its number and the seed alone, not on the processes that draw them. A
shard that is there is not drawn again, so the command continues what was interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from drawing.scenes import Studio, subject
from drawing.textures import texture_bank

if TYPE_CHECKING:
    from numpy.typing import NDArray

TEXTURES = 340
CLASSES_PER_SHARD = 20


def draw_class(studio: Studio, seed: int, number: int, pictures: int) -> NDArray[np.uint8]:
    """Draw the pictures of one class, (pictures, side, side, 3) uint8."""
    cv2.setRNGSeed(number)
    who = subject((seed, 2, number), len(studio.textures))
    return np.stack(
        [studio.picture(who, np.random.default_rng([seed, 3, number, i])) for i in range(pictures)]
    )


def draw_shard(folder: Path, seed: int, pictures: int, side: int, shard: int) -> int:
    """Draw one shard to `folder` unless it is there: (classes, pictures, side, side, 3) uint8."""
    path = folder / f"{shard:05d}.npy"
    if not path.exists():
        cv2.setNumThreads(1)
        studio = Studio(_bank(seed), side)
        numbers = range(shard * CLASSES_PER_SHARD, (shard + 1) * CLASSES_PER_SHARD)
        drawn = np.stack([draw_class(studio, seed, number, pictures) for number in numbers])
        partial_path = path.with_suffix(".partial")
        with partial_path.open("wb") as file:
            np.save(file, drawn)
        partial_path.rename(path)
    return shard


_BANKS: dict[int, NDArray[np.uint8]] = {}


def _bank(seed: int) -> NDArray[np.uint8]:
    if seed not in _BANKS:
        _BANKS[seed] = texture_bank(seed, TEXTURES)
    return _BANKS[seed]


def main() -> None:
    """Draw what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--classes", type=int, default=4000)
    parser.add_argument("--pictures", type=int, default=32, help="for each class")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    settings = {name: getattr(asked, name) for name in ("pictures", "side", "seed")}
    (asked.folder / "drawn.json").write_text(json.dumps(settings) + "\n")
    shards = range(asked.classes // CLASSES_PER_SHARD)
    work = partial(draw_shard, asked.folder, asked.seed, asked.pictures, asked.side)
    started = time.monotonic()
    with Pool(asked.processes) as pool:
        for done, _ in enumerate(pool.imap_unordered(work, shards), 1):
            seconds = time.monotonic() - started
            print(f"\r{done}/{len(shards)} shards, {seconds:.0f} s", end="", file=sys.stderr)
    print(file=sys.stderr)


if __name__ == "__main__":
    main()
