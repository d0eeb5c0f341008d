"""Rows of a table, evenly spread over it, whose neighbours are compared in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pomona.analysis.vectors import evenly_spread
from pomona.progress import Progress, Snapshot, no_progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.analysis.similarity import Directions

__all__ = ["Sample", "draw_sample"]


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows with a vector: all of a table, or some that are evenly spread.

    Attributes:
        paths: of N rows.
        labels: of N rows; None for a row without a label.
        numbers: (N,) numbers of the rows in the table.
        directions: (N, D) float32, of length 1, less the table's centre.
    """

    paths: list[str]
    labels: list[str | None]
    numbers: NDArray[np.intp] = field(repr=False)
    directions: NDArray[np.float32] = field(repr=False)


def draw_sample(directions: Directions, most: int, progress: Progress = no_progress) -> Sample:
    """Read at most `most` rows, evenly spread over a table: 4 x `most` x D bytes.

    Args:
        directions: of the table.
        most: largest number of rows.
        progress: called with the progress.
    """
    rows = evenly_spread(directions.rows, most)
    sample = Sample([], [], rows, np.empty((len(rows), directions.dimension), np.float32))
    for block in directions.rows_at(rows):
        start = len(sample.paths)
        sample.directions[start : start + len(block)] = block.vectors
        sample.paths.extend(block.paths.to_pylist())
        sample.labels.extend(block.labels.to_pylist())
        progress(Snapshot("reading", len(sample.paths), len(rows)))
    return sample
