"""Batches for training: crops of drawn pictures, their classes, and descriptors of the crops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.random import Generator
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Pixels = NDArray[np.uint8]

_GRID = 4
_ORIENTATIONS = 8
DESCRIPTOR = _GRID * _GRID * (_ORIENTATIONS + 1 + 3 + 1)


class Shards:
    """Drawn pictures on disk, as memory maps."""

    def __init__(self, folder: Path, shards: int | None = None) -> None:
        paths = sorted(folder.glob("*.npy"))[:shards]
        if not paths:
            raise SystemExit(f"no shards in {folder}: draw them with draw.py")
        self._maps = [np.load(path, mmap_mode="r") for path in paths]
        self._per_shard, self.pictures = self._maps[0].shape[:2]
        self.classes = len(self._maps) * self._per_shard

    def picture(self, number: int, which: int) -> Pixels:
        """One picture of a class, (side, side, 3)."""
        return self._maps[number // self._per_shard][number % self._per_shard, which]


def batch(
    shards: Shards, rng: Generator, size: int, pictures: int, side: int
) -> tuple[Floats, NDArray[np.int64]]:
    """Draw a batch: crops (size, side, side, 3) in -1..1, and their classes (size,).

    Crops of one picture, size / pictures of each, are next to one another.
    """
    classes = np.repeat(rng.integers(shards.classes, size=pictures), size // pictures)
    images = np.empty((size, side, side, 3), np.float32)
    for i, number in enumerate(classes):
        if i % (size // pictures) == 0:
            picture = shards.picture(int(number), int(rng.integers(shards.pictures)))
        images[i] = augment(picture, rng, side)
    return images, classes


def augment(picture: Pixels, rng: Generator, side: int) -> Floats:
    """Crop, turn a little, mirror and change the colours of a picture; -1..1."""
    whole = picture.shape[0]
    crop = whole * np.sqrt(rng.uniform(0.4, 1.1))
    stretch = np.exp(rng.normal(0, 0.12))
    angle = rng.normal(0, 0.12)
    wide, high = crop * stretch / side, crop / stretch / side
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.array([[cos * wide, -sin * high], [sin * wide, cos * high]])
    if rng.random() < 0.5:
        matrix[:, 0] *= -1
    free = max(0.0, (whole - crop) / 2)
    middle = whole / 2 + rng.uniform(-free, free, 2) - matrix @ [side / 2, side / 2]
    image = cv2.warpAffine(
        # Shrinking by more than two skips pixels: halve first.
        picture, np.concatenate([matrix, middle[:, None]], 1), (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT_101,
    )  # fmt: skip
    result = image.astype(np.float32) * np.float32(1 / 127.5) - 1
    if rng.random() < 0.7:
        gain = np.exp(rng.normal(0, 0.15) + rng.normal(0, 0.06, 3)).astype(np.float32)
        result = result * gain + np.float32(rng.normal(0, 0.1))
    if rng.random() < 0.12:
        result[:] = result.mean(-1, keepdims=True)
    if rng.random() < 0.1:
        result = cv2.GaussianBlur(result, (0, 0), float(rng.uniform(0.4, 1.2)))
    return np.clip(result, -1, 1)


def descriptors(images: Floats) -> Floats:
    """What every image shows without any label: edges by direction, contrast and colour by place.

    Histograms of oriented gradients (Dalal and Triggs, CVPR 2005) and mean colours on a grid of
    4x4, so that the network is asked for layout, shape and colour of the whole picture.

    Args:
        images: (N, side, side, 3) in -1..1.

    Returns:
        (N, 208), each block of about unit size.
    """
    count = images.shape[0]
    grey = images.mean(-1)
    dy, dx = np.zeros_like(grey), np.zeros_like(grey)
    dy[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    dx[:, :, 1:-1] = grey[:, :, 2:] - grey[:, :, :-2]
    size = np.sqrt(dx * dx + dy * dy)
    doubled_cos = (dx * dx - dy * dy) / (size + 1e-6)
    doubled_sin = 2 * dx * dy / (size + 1e-6)
    cells = []
    for k in range(_ORIENTATIONS):
        angle = 2 * np.pi * k / _ORIENTATIONS
        # Soft assignment: a raised cosine about each direction, of lines rather than arrows.
        along = doubled_cos * np.cos(angle) + doubled_sin * np.sin(angle)
        cells.append(_cells(np.maximum(along - 0.5 * size, 0)))
    edges = np.sqrt(np.stack(cells, -1))  # (N, 4, 4, 8)
    norm = np.sqrt((edges**2).sum((1, 2, 3), keepdims=True) / _GRID**2) + 0.02
    edges = edges / norm * 2
    energy = np.log(_cells(size) + 0.01)[..., None] * 0.5
    colour = np.stack([_cells(images[..., c]) for c in range(3)], -1) * 2
    spread = np.sqrt(_cells((images - images.mean(-1, keepdims=True)).std(-1)))[..., None]
    parts = np.concatenate([edges, energy, colour, spread], -1)
    return parts.reshape(count, DESCRIPTOR).astype(np.float32)


def _cells(values: Floats) -> Floats:
    n, side, _ = values.shape
    step = side // _GRID
    return values.reshape(n, _GRID, step, _GRID, step).mean((2, 4))
