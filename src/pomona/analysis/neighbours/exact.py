"""Exact nearest neighbours by similarity: of queries, of each row, and all near pairs of rows.

Rows are directions, as `pomona.analysis.similarity` makes them, so similarities are inner products.

All searches multiply blocks of rows and keep only what they look for, so memory is bounded for a
table of any size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from pomona.analysis.neighbours.groups import Groups
from pomona.progress import Progress, Snapshot, no_progress

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from pomona.analysis.similarity import Directions
    from pomona.analysis.vectors import Block

__all__ = [
    "HELD_BYTES",
    "Nearest",
    "Neighbours",
    "Pairs",
    "block_rows",
    "compare_pairs",
    "find_neighbours",
    "nearest_rows",
]

_SIMILARITIES = 2**25  # of all queries and one block: 128 MiB
_QUERIES = 512  # rows of a matrix to compare with all rows at a time: 100 MB for 50,000 rows
HELD_BYTES = 2**30
"""200,000 rows of 1280 numbers. Larger tables are read several times."""

_TILE_ROWS, _TILE_COLUMNS = 2048, 8192  # a tile's similarities are 64 MiB


def _largest(
    similarities: NDArray[np.float32], k: int
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return columns and values of the k largest similarities of each row, the largest first."""
    least = max(similarities.shape[1] - k, 0)
    columns = np.argpartition(similarities, least, axis=1)[:, least:]
    values = np.take_along_axis(similarities, columns, 1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(columns, order, 1), np.take_along_axis(values, order, 1)


# The nearest rows of queries ----------------------------------------------------------------------


@dataclass(slots=True)
class Nearest:
    """The k nearest rows of each of Q queries, the nearest first.

    Attributes:
        similarity: (Q, k) float32; -inf if the table has no further row.
        paths: (Q, k) of strings.
        labels: (Q, k) of strings or None.
    """

    similarity: NDArray[np.float32]
    paths: NDArray[np.object_]
    labels: NDArray[np.object_]

    @classmethod
    def none(cls, queries: int, k: int) -> Nearest:
        """Return the result before the first row."""
        return cls(
            np.full((queries, k), -np.inf, np.float32),
            np.full((queries, k), None, object),
            np.full((queries, k), None, object),
        )

    def add(self, block: Block, similarities: NDArray[np.float32]) -> None:
        """Keep the nearest of these rows and of the rows of a block.

        Args:
            block: B rows.
            similarities: (Q, B), of each query and row; -inf excludes a row.
        """
        k = self.similarity.shape[1]
        columns, values = _largest(similarities, k)
        used, at = np.unique(columns, return_inverse=True)

        def strings(column: pa.Array) -> NDArray[np.object_]:
            return np.asarray(column.take(used).to_pylist(), object)[at.reshape(columns.shape)]

        similarity = np.hstack([self.similarity, values])
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
        self.similarity = np.take_along_axis(similarity, order, 1)
        paths = np.hstack([self.paths, strings(block.paths)])
        self.paths = np.take_along_axis(paths, order, 1)
        labels = np.hstack([self.labels, strings(block.labels)])
        self.labels = np.take_along_axis(labels, order, 1)


def nearest_rows(
    blocks: Iterable[Block],
    queries: NDArray[np.float32],
    k: int,
    without: list[str | None] | None = None,
) -> Nearest:
    """Find the k nearest rows of each query, in one pass over a table.

    Args:
        blocks: directions of the table's rows, in blocks of `block_rows` rows.
        queries: (Q, D) float32, directions from the same centre.
        k: how many rows to find for each query.
        without: for each query the path of the row that it comes from, which is excluded.
    """
    nearest = Nearest.none(len(queries), k)
    for block in blocks:
        similarities = queries @ block.vectors.T  # (Q, D) @ (D, B) -> (Q, B) float32
        for query, path in enumerate(without or []):
            if path is not None and (at := pc.index(block.paths, path).as_py()) >= 0:
                similarities[query, at] = -np.inf
        nearest.add(block, similarities)
    return nearest


def block_rows(queries: int) -> int:
    """Return how many rows to compare at a time with so many queries: 128 MiB of similarities."""
    return int(np.clip(_SIMILARITIES // max(queries, 1), 64, 8192))


# The nearest rows of each row ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The k nearest other rows of each of N rows, the nearest first.

    Attributes:
        rows: (N, k) int, their numbers.
        similarity: (N, k) float32, similarities.
    """

    rows: NDArray[np.intp]
    similarity: NDArray[np.float32]

    def of(self, row: int) -> list[tuple[int, float]]:
        """Return the neighbours of a row, each with its similarity."""
        return list(zip(self.rows[row].tolist(), self.similarity[row].tolist(), strict=True))


def find_neighbours(
    directions: NDArray[np.float32], k: int, progress: Progress = no_progress
) -> Neighbours:
    """Find the k nearest other rows of each row of a matrix; N - 1 if there are fewer than k.

    Args:
        directions: (N, D) float32.
        k: how many rows to find for each row.
        progress: called with the progress.
    """
    count = len(directions)
    k = min(k, count - 1)
    found = Neighbours(np.empty((count, k), np.intp), np.empty((count, k), np.float32))
    for start in range(0, count if k else 0, _QUERIES):
        stop = min(start + _QUERIES, count)
        similarities = directions[start:stop] @ directions.T  # (B, D) @ (D, N) -> (B, N) float32
        _exclude_itself(similarities, start, 0)
        found.rows[start:stop], found.similarity[start:stop] = _largest(similarities, k)
        progress(Snapshot("comparing", stop, count))
    return found


def _exclude_itself(similarities: NDArray[np.float32], top: int, left: int) -> None:
    """Set the similarity of each row and itself to -inf, in a tile that begins at (top, left)."""
    rows = np.arange(top, top + len(similarities))
    inside = (rows >= left) & (rows < left + similarities.shape[1])
    similarities[np.flatnonzero(inside), rows[inside] - left] = -np.inf


# All near pairs -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pairs:
    """The near pairs among N rows.

    Attributes:
        nearest: (N,) float32, the similarity of each row and its nearest; -inf for a single row.
        component: (N,) int32, equal for rows that a chain of near pairs connects.
    """

    nearest: NDArray[np.float32]
    component: NDArray[np.int32]


def compare_pairs(
    directions: Directions,
    threshold: float,
    progress: Progress = no_progress,
    held_rows: int | None = None,
) -> Pairs:
    """Compare every row of a table with every other, each pair once: N * N / 2 similarities.

    Args:
        directions: of N rows.
        threshold: a pair is near if its similarity is this or more.
        progress: called with the progress.
        held_rows: rows to hold at a time, by default a gigabyte of them. The table is streamed past
            them, so a larger table is read several times.
    """
    rows = directions.rows
    held_rows = held_rows or max(_TILE_ROWS, HELD_BYTES // (4 * directions.dimension))
    nearest = np.full(rows, -np.inf, np.float32)
    groups = Groups(rows)
    done, total = 0, rows * (rows + 1) // 2
    for first in range(0, rows, held_rows):
        held = directions.matrix(np.arange(first, min(first + held_rows, rows)))
        for top, block in _rows_from(directions, first, held):
            # Compare with held rows up to the block's last: later rows compare with these.
            right = min(top + len(block) - first, len(held))
            for left in range(0, right, _TILE_COLUMNS):
                tile = held[left : min(left + _TILE_COLUMNS, right)]
                similarities = block @ tile.T  # (B, D) @ (D, C) -> (B, C) float32
                _add_tile(similarities, top, first + left, threshold, nearest, groups)
            done += len(block) * right
            progress(Snapshot("comparing", min(done, total), total))
    return Pairs(nearest, groups.component())


def _rows_from(
    directions: Directions, first: int, held: NDArray[np.float32]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the rows from `first` on in blocks with their first numbers; held rows are not read."""
    for start in range(0, len(held), _TILE_ROWS):
        yield first + start, held[start : start + _TILE_ROWS]
    start, beyond = 0, first + len(held)
    if beyond == directions.rows:
        return
    for block in directions.blocks(_TILE_ROWS):
        if start + len(block) > beyond:
            skipped = max(0, beyond - start)
            yield start + skipped, block.vectors[skipped:]
        start += len(block)


def _add_tile(  # noqa: PLR0913, PLR0917 - a tile, its position, and the results
    similarities: NDArray[np.float32],
    top: int,
    left: int,
    threshold: float,
    nearest: NDArray[np.float32],
    groups: Groups,
) -> None:
    _exclude_itself(similarities, top, left)
    by_row = similarities.max(axis=1)
    rows, columns = slice(top, top + len(by_row)), slice(left, left + similarities.shape[1])
    np.maximum(nearest[rows], by_row, out=nearest[rows])
    np.maximum(nearest[columns], similarities.max(axis=0), out=nearest[columns])
    near = np.flatnonzero(by_row >= threshold)
    if len(near):
        one, other = np.nonzero(similarities[near] >= threshold)
        groups.connect(top + near[one], left + other)
