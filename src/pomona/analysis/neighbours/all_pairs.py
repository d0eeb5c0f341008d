"""All pairs of a table's vectors, compared in tiles: how near the nearest is, and who is near.

Every pair is compared once: N * N / 2 cosines, each of D multiplications. Memory is bounded
whatever the table's size: rows are held up to `_HELD_BYTES` at a time, and the table is streamed
past them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pomona.analysis.neighbours.cosine import unit
from pomona.analysis.progress import Step, no_steps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.analysis.vectors import Vectors

__all__ = ["Pairs", "compare_pairs"]

_HELD_BYTES = 2**30  # 200,000 rows of 1280 numbers: larger tables are read several times
_TILE_ROWS, _TILE_COLUMNS = 2048, 8192  # a tile's cosines are 64 MiB
_EDGES = 4_000_000  # pairs that wait, 64 MB, before they are put together to groups


@dataclass(frozen=True, slots=True)
class Pairs:
    """What was found among N rows.

    Attributes:
        nearest: (N,) float32, the cosine of each row and the one nearest to it; -inf if alone.
        component: (N,) int32, equal for rows that a chain of near pairs connects.
    """

    nearest: NDArray[np.float32]
    component: NDArray[np.int32]


def compare_pairs(
    vectors: Vectors, threshold: float, step: Step = no_steps, held_rows: int | None = None
) -> Pairs:
    """Compare every row with every other.

    Args:
        vectors: of N rows.
        threshold: a pair is near from this cosine on.
        step: told how far it is.
        held_rows: rows to hold at a time, by default a gigabyte of them.
    """
    rows = vectors.rows
    held_rows = held_rows or max(_TILE_ROWS, _HELD_BYTES // (4 * vectors.dimension))
    nearest = np.full(rows, -np.inf, np.float32)
    groups = _Groups(rows)
    done, total = 0, rows * (rows + 1) // 2
    for first in range(0, rows, held_rows):
        held = _held(vectors, first, min(first + held_rows, rows))
        for start, block in _from(vectors, first, held):
            stop = start + len(block)
            # Only rows up to the block's own: the others will see it when it is they who come.
            for left in range(0, min(stop - first, len(held)), _TILE_COLUMNS):
                columns = slice(left, min(left + _TILE_COLUMNS, stop - first, len(held)))
                cosines = block @ held[columns].T  # (B, D) @ (D, C) -> (B, C) float32
                _leave_out_itself(cosines, start, first + left)
                _take(cosines, start, first + left, threshold, nearest, groups)
            done += len(block) * min(stop - first, len(held))
            step("comparing", min(done, total), total)
    return Pairs(nearest, groups.component())


def _held(vectors: Vectors, first: int, last: int) -> NDArray[np.float32]:
    """Rows first to last, of length 1: (last - first, D) float32."""
    held = np.empty((last - first, vectors.dimension), np.float32)
    start = 0
    for block in vectors.blocks():
        stop = start + len(block)
        if start < last and stop > first:
            low, high = max(start, first), min(stop, last)
            held[low - first : high - first] = unit(block.vectors[low - start : high - start])
        start = stop
        if start >= last:
            break
    return held


def _from(
    vectors: Vectors, first: int, held: NDArray[np.float32]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The rows from `first` on, in blocks with their place; those that are held are not read."""
    for start in range(0, len(held), _TILE_ROWS):
        yield first + start, held[start : start + _TILE_ROWS]
    start, beyond = 0, first + len(held)
    if beyond == vectors.rows:
        return
    for block in vectors.blocks(_TILE_ROWS):
        if start + len(block) > beyond:
            skipped = max(0, beyond - start)
            yield start + skipped, unit(block.vectors[skipped:])
        start += len(block)


def _leave_out_itself(cosines: NDArray[np.float32], start: int, left: int) -> None:
    """A row is not its own neighbour: blank the diagonal, where the tile touches it."""
    rows = np.arange(start, start + len(cosines))
    on = (rows >= left) & (rows < left + cosines.shape[1])
    cosines[np.flatnonzero(on), rows[on] - left] = -np.inf


def _take(  # noqa: PLR0913, PLR0917 - a tile, where it stands, and what is made of it
    cosines: NDArray[np.float32],
    start: int,
    left: int,
    threshold: float,
    nearest: NDArray[np.float32],
    groups: _Groups,
) -> None:
    by_row = cosines.max(axis=1)
    rows, columns = slice(start, start + len(by_row)), slice(left, left + cosines.shape[1])
    np.maximum(nearest[rows], by_row, out=nearest[rows])
    np.maximum(nearest[columns], cosines.max(axis=0), out=nearest[columns])
    near = np.flatnonzero(by_row >= threshold)
    if len(near):
        one, other = np.nonzero(cosines[near] >= threshold)
        groups.connect(start + near[one], left + other)


class _Groups:
    """Rows connected by pairs, put together now and then, so that pairs never fill the memory."""

    def __init__(self, rows: int) -> None:
        self._component = np.arange(rows, dtype=np.int32)
        self._waiting: list[tuple[NDArray[np.int32], NDArray[np.int32]]] = []
        self._count = 0

    def connect(self, ones: NDArray[np.intp], others: NDArray[np.intp]) -> None:
        one, other = self._component[ones], self._component[others]
        new = one != other
        self._waiting.append((one[new], other[new]))
        self._count += int(new.sum())
        if self._count >= _EDGES:
            self._put_together()

    def component(self) -> NDArray[np.int32]:
        self._put_together()
        return self._component

    def _put_together(self) -> None:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        if not self._count:
            return
        one = np.concatenate([pair[0] for pair in self._waiting])
        other = np.concatenate([pair[1] for pair in self._waiting])
        shape = (len(self._component),) * 2
        graph = coo_array((np.ones(len(one), bool), (one, other)), shape)
        _, merged = connected_components(graph, directed=False)
        self._component = merged.astype(np.int32)[self._component]
        self._waiting, self._count = [], 0
