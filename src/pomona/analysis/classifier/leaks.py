"""Test images that are nearly the same as training images: they make a test look better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.analysis.classifier.splitting import TEST, TRAIN
from pomona.analysis.similarity import THRESHOLD, centred_directions
from pomona.analysis.vectors import evenly_spread
from pomona.progress import Progress, Snapshot, no_progress

if TYPE_CHECKING:
    from pomona.analysis.classifier.splitting import SplitRows
    from pomona.analysis.vectors import Vectors

__all__ = ["Leaks", "find_leaks"]

_COMPARED = 1000  # test images, evenly spread: the share is then known to 3 points


@dataclass(frozen=True, slots=True)
class Leaks:
    """How many test images have a near duplicate among the training images.

    Attributes:
        compared: number of test images that were compared with all training images.
        near: number of these with a training image of the similarity `threshold` or more.
        threshold: the similarity from which images are near duplicates.
    """

    compared: int
    near: int
    threshold: float

    def to_json(self) -> dict[str, Any]:
        """Return an object that `json.dumps` accepts."""
        return {"compared": self.compared, "near": self.near, "threshold": self.threshold}


def find_leaks(vectors: Vectors, rows: SplitRows, progress: Progress = no_progress) -> Leaks:
    """Compare up to 1,000 test images with all training images. This reads the table three times.

    Args:
        vectors: of the table.
        rows: the part of each row.
        progress: called with the progress.
    """
    directions = centred_directions(vectors, progress)
    tested = np.flatnonzero(rows.parts == TEST)
    if len(tested):
        tested = tested[evenly_spread(len(tested), _COMPARED)]
    tests = directions.matrix(tested)
    nearest = np.full(len(tests), -np.inf, np.float32)
    done = 0
    for block in directions.blocks():
        training = block.vectors[rows.parts[done : done + len(block)] == TRAIN]
        if len(training):
            np.maximum(nearest, (tests @ training.T).max(axis=1), out=nearest)
        done += len(block)
        progress(Snapshot("looking for leaks", done, vectors.rows))
    return Leaks(len(tests), int((nearest >= THRESHOLD).sum()), THRESHOLD)
