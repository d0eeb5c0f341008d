"""Similarity: the cosine of two vectors less the centre of their table.

A network's vectors all point in much the same direction: with MobileNetV2 and ImageNet weights, two
random photos have a cosine of 0.4 to 0.6, and other networks have other numbers. Less the centre of
their table, two random images have a similarity of about 0 with any network, and equal images 1.
Centring also removes hubs, images that are near to many others (Suzuki et al., "Centering
similarity measures to reduce hubs", EMNLP 2013).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pomona.analysis.vectors import unit
from pomona.errors import UsageError
from pomona.progress import Progress, Snapshot, no_progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.analysis.vectors import Block, Vectors

__all__ = [
    "THRESHOLD",
    "Directions",
    "centred_directions",
    "check_similarity",
    "plain_directions",
]

THRESHOLD = 0.8
"""Two images are near duplicates if their similarity is this or more."""


_ZEROS = 3
"""Vectors of zeros that count in a centre. Without them, two images would be opposites of each
other, and a table of equal images would have no directions."""


@dataclass(frozen=True, slots=True)
class Directions:
    """The vectors of a table less a centre, scaled to length 1. Inner products are similarities.

    Attributes:
        vectors: of the table, N of length D.
        centre: (D,) float32.
    """

    vectors: Vectors
    centre: NDArray[np.float32]

    @property
    def rows(self) -> int:
        """The number N of rows with a vector."""
        return self.vectors.rows

    @property
    def dimension(self) -> int:
        """The length D of a vector."""
        return self.vectors.dimension

    def of(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the directions of some vectors: (B, D) -> (B, D) float32."""
        return unit(vectors - self.centre)

    def blocks(self, size: int = 8192) -> Iterator[Block]:
        """Stream the rows as `Vectors.blocks` does."""
        for block in self.vectors.blocks(size):
            yield replace(block, vectors=self.of(block.vectors))

    def rows_at(self, numbers: NDArray[np.intp]) -> Iterator[Block]:
        """Stream rows by their numbers, which must be in ascending order; blocks may be empty."""
        for block in self.vectors.rows_at(numbers):
            yield replace(block, vectors=self.of(block.vectors))

    def matrix(self, numbers: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return rows by their numbers, which must be in ascending order: (B, D) float32."""
        matrix = np.empty((len(numbers), self.dimension), np.float32)
        filled = 0
        for block in self.rows_at(numbers):
            matrix[filled : filled + len(block)] = block.vectors
            filled += len(block)
        return matrix


def centred_directions(vectors: Vectors, progress: Progress = no_progress) -> Directions:
    """Return the directions of a table from its centre: the sum of its vectors / (N + 3).

    This reads the table once.

    Args:
        vectors: of the table.
        progress: called with the progress.
    """
    total = np.zeros(vectors.dimension)
    done = 0
    for block in vectors.blocks():
        total += block.vectors.sum(axis=0, dtype=np.float64)
        done += len(block)
        progress(Snapshot("finding the centre", done, vectors.rows))
    return Directions(vectors, (total / (vectors.rows + _ZEROS)).astype(np.float32))


def plain_directions(vectors: Vectors) -> Directions:
    """Return the directions of a table from 0, in which images are compared with texts."""
    return Directions(vectors, np.zeros(vectors.dimension, np.float32))


def check_similarity(threshold: float) -> None:
    """Check a threshold.

    Raises:
        UsageError: it is not a similarity.
    """
    if not -1 <= threshold <= 1:
        raise UsageError(
            f"`threshold` {threshold:g}: expected a similarity from -1 to 1, such as {THRESHOLD}"
        )
