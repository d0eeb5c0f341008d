"""Likely wrong labels: images that are nearer to another class than to their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pomona.progress import Progress, Snapshot, no_progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Mislabel", "find_mislabels"]

_ROWS = 512  # to compare at a time: 100 MB of similarities for 50,000 rows
_NEAREST = 5


@dataclass(frozen=True, slots=True)
class Mislabel:
    """An image that is nearer to another class than to its own.

    Attributes:
        row: its number.
        other: the nearest other class.
        own_similarity: the mean similarity to the five nearest other images of its class.
        other_similarity: the same for the nearest other class.
    """

    row: int
    other: str
    own_similarity: float
    other_similarity: float


def find_mislabels(
    directions: NDArray[np.float32], labels: Sequence[str | None], progress: Progress = no_progress
) -> list[Mislabel]:
    """Return the images that are nearer to another class than to their own, the clearest first.

    A class is as near as the mean of its five nearest images, or of all if it has fewer. Images
    without a label do not count, and neither do classes of one image.

    Args:
        directions: (N, D) float32, of length 1.
        labels: N of them.
        progress: called with the progress.
    """
    counts = Counter(label for label in labels if label is not None)
    names = sorted(label for label, count in counts.items() if count > 1)
    code = {label: number for number, label in enumerate(names)}
    codes = np.array([-1 if label is None else code.get(label, -1) for label in labels])
    rows = np.flatnonzero(codes >= 0)
    rows = rows[np.argsort(codes[rows], kind="stable")]  # each class in one piece
    if len(names) < 2:
        return []
    borders = np.flatnonzero(np.diff(codes[rows])) + 1
    pieces = list(zip([0, *borders], [*borders, len(rows)], strict=True))
    ordered = directions[rows]
    found: list[Mislabel] = []
    for start in range(0, len(rows), _ROWS):
        stop = min(start + _ROWS, len(rows))
        similarities = ordered[start:stop] @ ordered.T  # (B, D) @ (D, N) -> (B, N) float32
        itself = np.arange(start, stop)
        similarities[itself - start, itself] = -np.inf
        near = np.stack([_nearest(similarities[:, left:right]) for left, right in pieces], axis=1)
        own_class = codes[rows[start:stop]]
        own = np.take_along_axis(near, own_class[:, None], 1)[:, 0]
        np.put_along_axis(near, own_class[:, None], -np.inf, 1)
        other = near.argmax(axis=1)
        for at in np.flatnonzero(near.max(axis=1) > own):
            name, similarity = names[other[at]], float(near[at, other[at]])
            found.append(Mislabel(int(rows[start + at]), name, float(own[at]), similarity))
        progress(Snapshot("comparing classes", stop, len(rows)))
    return sorted(found, key=lambda each: (each.own_similarity - each.other_similarity, each.row))


def _nearest(similarities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean of the five largest values in each row, without those of -inf: (B,)."""
    first = max(similarities.shape[1] - _NEAREST, 0)
    largest = np.partition(similarities, first, axis=1)[:, first:]
    counts = np.isfinite(largest)
    mean: NDArray[np.float32] = np.where(counts, largest, 0).sum(axis=1) / counts.sum(axis=1)
    return mean
