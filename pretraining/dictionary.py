"""What pictures are made of: a dictionary of small patches, and pictures described by it.

The dictionary is learned from drawn pictures alone, by k-means of whitened patches (Coates, Lee and
Ng, AISTATS 2011). Where in a picture which patches are, together with `batches.descriptors`, is
what the network is asked for: a neighbour by this description alone is more often of the same kind
than one by a network that learned classes. RESULTS.md has the figures.

    python dictionary.py SHARDS dictionary.npz stamps/ held_out/

learns it from shards, or reads it, and measures it as evaluate.py measures weights.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from batches import Shards, augment, descriptors

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_SIDE, _PATCH, _GRID = 32, 6, 4
_WORDS = 256
_THRESHOLD = 1.0  # of the cosine-like match, below which a word is not there
_FLOOR = 0.005  # of the largest variance: directions of less are not grown to the full size
SIZE = 384
"""Numbers in a description."""


class Dictionary:
    """Words (patches), and the directions in which descriptions by them differ most."""

    def __init__(self, arrays: dict[str, Floats]) -> None:
        self.arrays = arrays

    @classmethod
    def load(cls, path: Path, shards: Shards, seed: int) -> Dictionary:
        """Read it from `path`, or learn it from drawn pictures and write it there."""
        if not path.exists():
            print("learning the dictionary", file=sys.stderr)
            partial = path.with_suffix(".partial")
            with partial.open("wb") as file:
                np.savez(file, **learned(shards, np.random.default_rng([seed, 9])))
            partial.rename(path)
        with np.load(path) as kept:
            return cls({name: kept[name] for name in kept.files})

    def __call__(self, images: Floats) -> Floats:
        """Images (N, side, side, 3) in -1..1, side at least 32 -> descriptions (N, 384).

        A direction's variance over drawn pictures is near 1, and less for the last ones.
        """
        known = self.arrays
        parts = _parts(images, known["whitening"], known["patch_mean"], known["words"])
        centred = [
            (part - known[f"mean_{i}"]) / known[f"spread_{i}"] for i, part in enumerate(parts)
        ]
        result: Floats = np.concatenate(centred, 1) @ known["directions"]
        return result


def learned(
    shards: Shards, rng: Generator, pictures: int = 4000, patches: int = 40_000, rounds: int = 12
) -> dict[str, Floats]:
    """Learn words and directions from crops of drawn pictures."""
    images = np.stack([_crop(shards, rng) for _ in range(pictures)])
    found = _patches(_small(images))
    chosen = found[tuple(rng.integers(n, size=patches) for n in found.shape[:3])]
    chosen = _normalized(chosen)
    mean = chosen.mean(0)
    size, axes = np.linalg.eigh(np.cov((chosen - mean).T))
    whitening = ((axes / np.sqrt(size + 0.02)) @ axes.T).astype(np.float32)
    words = _spherical_k_means((chosen - mean) @ whitening, rng, rounds)
    known: dict[str, Floats] = {"patch_mean": mean, "whitening": whitening, "words": words}
    parts = [
        np.concatenate(column)
        for column in zip(
            *(
                _parts(images[i : i + 50], whitening, mean, words)
                for i in range(0, len(images), 50)
            ),
            strict=True,
        )
    ]
    centred = []
    for i, part in enumerate(parts):
        known[f"mean_{i}"] = part.mean(0)
        away = part - known[f"mean_{i}"]
        known[f"spread_{i}"] = np.sqrt((away**2).sum(1).mean())
        centred.append(away / known[f"spread_{i}"])
    both = np.concatenate(centred, 1)
    # Fewer pictures than numbers: the smaller of the two products has the same directions.
    size, axes = np.linalg.eigh(both @ both.T)
    size, axes = np.maximum(size[::-1][:SIZE], 1e-9), axes[:, ::-1][:, :SIZE]
    directions = both.T @ (axes / np.sqrt(size))  # (D, 384), of unit length
    variance = size / len(both)
    known["directions"] = directions / np.sqrt(variance + _FLOOR * variance[0])
    return {name: array.astype(np.float32) for name, array in known.items()}


def _crop(shards: Shards, rng: Generator) -> Floats:
    number, which = int(rng.integers(shards.classes)), int(rng.integers(shards.pictures))
    return augment(shards.picture(number, which), rng, 2 * _SIDE)


def _parts(images: Floats, whitening: Floats, mean: Floats, words: Floats) -> tuple[Floats, Floats]:
    """Square roots of how much of every word is in every cell, and the descriptors."""
    small = _small(images)
    # As (normalized(patches) - mean) @ whitening @ words, without an array of normalized patches.
    towards = whitening @ words.T
    patches = _patches(small)
    flat = patches.reshape(-1, patches.shape[-1])  # one product, twice as fast as one for each row
    there = (flat @ towards).reshape(*patches.shape[:3], -1)  # (N, 27, 27, words)
    level, deviation = _moments(small)
    there -= level * towards.sum(0)
    there /= deviation
    there -= mean @ towards + _THRESHOLD
    np.maximum(there, 0, out=there)
    edges = np.linspace(0, there.shape[1], _GRID + 1).astype(int)
    rows = np.add.reduceat(there, edges[:-1], axis=1)
    cells = np.add.reduceat(rows, edges[:-1], axis=2)  # (N, 4, 4, words)
    counts = np.diff(edges)
    cells /= (counts[:, None] * counts)[..., None]
    return np.sqrt(cells).reshape(len(images), -1), descriptors(_small(images, 2 * _SIDE))


def _small(images: Floats, side: int = _SIDE) -> Floats:
    if images.shape[1] == side:
        return images
    size = (side, side)
    return np.stack([cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images])


def _patches(images: Floats) -> Floats:
    """(N, 32, 32, 3) -> (N, 27, 27, 108)."""
    seen = np.lib.stride_tricks.sliding_window_view(images, (_PATCH, _PATCH), axis=(1, 2))
    return seen.reshape(*seen.shape[:3], -1)


def _moments(images: Floats) -> tuple[Floats, Floats]:
    """Mean and deviation of every patch, (N, 27, 27, 1) each."""
    both = np.stack([images.mean(-1), (images**2).mean(-1)], -1)
    half = _PATCH // 2
    blurred = np.stack([cv2.blur(image, (_PATCH, _PATCH)) for image in both])
    # cv2's anchor of an even window is right of its middle.
    mean, square = np.moveaxis(blurred[:, half : 1 - half, half : 1 - half], -1, 0)[..., None]
    return mean, np.sqrt(np.maximum(square - mean**2, 0) + np.float32(0.01))


def _normalized(patches: Floats) -> Floats:
    away = patches - patches.mean(-1, keepdims=True)
    result: Floats = away / np.sqrt((away**2).mean(-1, keepdims=True) + np.float32(0.01))
    return result


def _spherical_k_means(points: Floats, rng: Generator, rounds: int) -> Floats:
    """Directions (words, D) of unit length that points gather about."""
    words = points[rng.choice(len(points), _WORDS, replace=False)]
    for _ in range(rounds):
        words = words / (np.linalg.norm(words, axis=1, keepdims=True) + 1e-9)
        likeness = points @ words.T
        nearest = likeness.argmax(1)
        moved = np.zeros_like(words)
        np.add.at(moved, nearest, points * likeness.max(1)[:, None])
        empty = np.bincount(nearest, minlength=_WORDS) == 0
        moved[empty] = points[rng.choice(len(points), int(empty.sum()))]
        words = moved
    result: Floats = words / (np.linalg.norm(words, axis=1, keepdims=True) + 1e-9)
    return result


def main() -> None:
    """Print the agreement of nearest neighbours by descriptions alone, for every folder."""
    from evaluate import agreement

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shards", type=Path)
    parser.add_argument("dictionary", type=Path)
    parser.add_argument("folders", type=Path, nargs="*", help="trees with a folder for each class")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    describe = Dictionary.load(asked.dictionary, Shards(asked.shards), asked.seed)
    print("| folder | images | description |\n|---|---|---|")
    for folder in asked.folders:
        paths = sorted(path for path in folder.glob("*/*") if path.stat().st_size)
        told = np.concatenate([describe(_read(path)[None]) for path in paths])
        labels = np.array([path.parent.name for path in paths])
        print(f"| {folder.name} | {len(paths)} | {agreement(told, labels):.3f} |", flush=True)


def _read(path: Path) -> Floats:
    pixels = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    side = 2 * _SIDE
    shrunk = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
    return shrunk.astype(np.float32) / np.float32(127.5) - 1


if __name__ == "__main__":
    main()
