"""The places of all rows on a map, and short codes of their vectors to compare them by.

t-SNE places a sample, because its time grows too fast for a large table. Each other row lies
between its nearest rows of the sample, as new rows in openTSNE (Policar et al., 2019).

A code holds the strongest components of a direction (`pomona.analysis.similarity`). It holds all of
them if the codes of the table fit into `CODE_BYTES`: comparing codes is then comparing vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pomona.analysis.report.map_layout import place_rows
from pomona.analysis.similarity import centred_directions
from pomona.analysis.vectors import evenly_spread
from pomona.progress import Progress, Snapshot, no_progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.analysis.vectors import Vectors

__all__ = ["CODE_BYTES", "PLACED_TOGETHER", "Placed", "place_table"]

PLACED_TOGETHER = 5_000
"""The number of rows that t-SNE places: half a minute on one core."""

CODE_BYTES = 2**29
"""Of a million rows, a code has 268 numbers."""

_COMPARED = 50  # components by which rows find their place: as many as t-SNE starts from
_BETWEEN = 5  # rows of the sample that a row lies between
_BLOCK = 4096  # rows to place at a time: 80 MB of distances


@dataclass(frozen=True, slots=True)
class Placed:
    """The map of a table and the codes of its rows, in the order of the rows with a vector.

    Attributes:
        places: (N, 2) float32 between 0 and 1.
        codes: (N, R) float16: `axes @ d` for the direction d of each vector from the centre.
        distances: (N,) float32, of the vectors from the centre.
        lengths: (N,) float32, of the vectors.
        centre: (D,) float32, of the table.
        axes: (R, D) float32, orthogonal, of length 1, the strongest first.
    """

    places: NDArray[np.float32]
    codes: NDArray[np.float16]
    distances: NDArray[np.float32]
    lengths: NDArray[np.float32]
    centre: NDArray[np.float32]
    axes: NDArray[np.float32]


def place_table(
    vectors: Vectors,
    method: str,
    progress: Progress = no_progress,
    together: int = PLACED_TOGETHER,
) -> Placed:
    """Place all rows of a table that have a vector. The table is read three times.

    Args:
        vectors: of N rows, at least one.
        method: `tsne` or `pca`.
        progress: called with the progress.
        together: the number of rows that t-SNE places.

    Raises:
        UsageError: `tsne` needs scikit-learn, which is not installed.
    """
    rows = evenly_spread(vectors.rows, together)
    directions = centred_directions(vectors, progress)
    sample = directions.matrix(rows)
    axes = _axes(sample, vectors.rows)
    codes = np.empty((vectors.rows, len(axes)), np.float16)
    distances, lengths = np.empty((2, vectors.rows), np.float32)
    filled = 0
    for block in vectors.blocks():
        part = slice(filled, filled + len(block))
        codes[part] = directions.of(block.vectors) @ axes.T
        distances[part] = np.linalg.norm(block.vectors - directions.centre, axis=1)
        lengths[part] = np.linalg.norm(block.vectors, axis=1)
        filled += len(block)
        progress(Snapshot("reading", filled, vectors.rows))
    if method == "pca":
        places = _in_square(codes[:, :2].astype(np.float32))
    else:
        progress(Snapshot("drawing the map", 0, 1))
        known = place_rows(sample, method)
        places = (
            known if len(rows) == vectors.rows else _place_between(codes, rows, known, progress)
        )
    return Placed(places, codes, distances, lengths, directions.centre, axes)


def _axes(sample: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    """Return the strongest axes of some directions of a table with so many rows: (R, D)."""
    from scipy.linalg import eigh

    count, dimension = sample.shape
    length = min(dimension, max(_COMPARED, CODE_BYTES // (2 * rows)))
    if count == rows:
        length = min(length, count)  # so many axes hold all rows of the table
    first = dimension - length
    _, axes = eigh(sample.T @ sample, subset_by_index=(first, dimension - 1))
    strongest: NDArray[np.float32] = np.ascontiguousarray(axes.T[::-1], np.float32)
    return strongest


def _place_between(
    codes: NDArray[np.float16],
    known: NDArray[np.intp],
    places: NDArray[np.float32],
    progress: Progress,
) -> NDArray[np.float32]:
    """Place rows between the nearest of those whose places are known, the nearer the closer."""
    anchors = codes[known, :_COMPARED].astype(np.float32)
    lengths = np.einsum("nd,nd->n", anchors, anchors)
    placed = np.empty((len(codes), 2), np.float32)
    for start in range(0, len(codes), _BLOCK):
        block = codes[start : start + _BLOCK, :_COMPARED].astype(np.float32)
        # Squared distances, less the row's own squared length: (B, A) float32
        distance = lengths - 2 * (block @ anchors.T)
        near = np.argpartition(distance, _BETWEEN, axis=1)[:, :_BETWEEN]
        squared = np.take_along_axis(distance, near, 1)
        squared += np.einsum("nd,nd->n", block, block)[:, None]
        weight = 1 / (np.maximum(squared, 0) + 1e-6)
        weight /= weight.sum(axis=1, keepdims=True)
        placed[start : start + _BLOCK] = np.einsum("bk,bkc->bc", weight, places[near])
        progress(Snapshot("placing", start + len(block), len(codes)))
    placed[known] = places
    return placed


def _in_square(places: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale both axes by one factor to the square from 0 to 1; a missing axis is 0.5."""
    if places.shape[1] < 2:
        places = np.pad(places, ((0, 0), (0, 2 - places.shape[1])))
    low, high = places.min(axis=0), places.max(axis=0)
    size = float((high - low).max()) or 1.0
    scaled: NDArray[np.float32] = ((places - (low + high) / 2) / size + 0.5).astype(np.float32)
    return scaled
