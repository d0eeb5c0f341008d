"""Cosine similarity: vectors of length 1, and the nearest of many, kept while they stream by.

The cosine of two vectors is the inner product of both divided by their lengths. It compares what a
network saw, not how strongly: 1 is the same direction, 0 nothing in common.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.analysis.vectors import Block, Vectors

__all__ = ["Nearest", "block_rows", "nearest_rows", "sample_rows", "unit"]

_SCORES = 2**25  # numbers that one product of queries and a block may have: 128 MiB


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide each vector by its length; one of zeros stays so, and is near to nothing.

    Args:
        vectors: (N, D) float32.

    Returns:
        (N, D) float32, a copy.
    """
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    scaled: NDArray[np.float32] = vectors * scale.astype(np.float32)[:, None]
    return scaled


@dataclass(slots=True)
class Nearest:
    """The nearest rows of each of Q queries, from the nearest on.

    Attributes:
        similarity: (Q, k) float32; -inf where the table has no further row.
        paths: (Q, k) of strings.
        labels: (Q, k) of strings or None.
    """

    similarity: NDArray[np.float32]
    paths: NDArray[np.object_]
    labels: NDArray[np.object_]

    @classmethod
    def none(cls, queries: int, k: int) -> Nearest:
        """Nothing found yet."""
        return cls(
            np.full((queries, k), -np.inf, np.float32),
            np.full((queries, k), None, object),
            np.full((queries, k), None, object),
        )

    def take(self, block: Block, scores: NDArray[np.float32]) -> None:
        """Let a block's rows compete.

        Args:
            block: B rows.
            scores: (Q, B), their similarity to each query; -inf for a row that may not be taken.
        """
        k = self.similarity.shape[1]
        # Only a block's own k best can be among the k best of all.
        best = np.argpartition(scores, max(scores.shape[1] - k, 0), axis=1)[:, -k:]
        found, where = np.unique(best, return_inverse=True)
        where = where.reshape(best.shape)
        paths = np.asarray(block.paths.take(found).to_pylist(), object)[where]
        labels = np.asarray(block.labels.take(found).to_pylist(), object)[where]
        self._keep(
            np.hstack([self.similarity, np.take_along_axis(scores, best, 1)]),
            np.hstack([self.paths, paths]),
            np.hstack([self.labels, labels]),
        )

    def _keep(
        self,
        similarity: NDArray[np.float32],
        paths: NDArray[np.object_],
        labels: NDArray[np.object_],
    ) -> None:
        k = self.similarity.shape[1]
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
        self.similarity = np.take_along_axis(similarity, order, 1)
        self.paths = np.take_along_axis(paths, order, 1)
        self.labels = np.take_along_axis(labels, order, 1)


def nearest_rows(
    blocks: Iterable[Block],
    queries: NDArray[np.float32],
    k: int,
    without: list[str | None] | None = None,
) -> Nearest:
    """Find the nearest rows of each query exactly, in one pass over the table.

    Args:
        blocks: the table's rows, in blocks that `block_rows` proposes.
        queries: (Q, D) float32, of length 1: see `unit`.
        k: how many.
        without: for each query the path of the row that it is itself, which does not count.

    Returns:
        At most k for each query.
    """
    import pyarrow.compute as pc

    nearest = Nearest.none(len(queries), k)
    for block in blocks:
        scores = queries @ unit(block.vectors).T  # (Q, D) @ (D, B) -> (Q, B) float32
        for query, path in enumerate(without or []):
            if path is not None and (at := pc.index(block.paths, path).as_py()) >= 0:
                scores[query, at] = -np.inf
        nearest.take(block, scores)
    return nearest


def block_rows(queries: int) -> int:
    """How many rows to compare at a time with so many queries, for 128 MiB of similarities."""
    return int(np.clip(_SCORES // max(queries, 1), 64, 8192))


def sample_rows(vectors: Vectors, count: int) -> NDArray[np.float32]:
    """Vectors of `count` rows, evenly spread over the table: (count, D) float32, of length 1."""
    wanted = np.unique(np.linspace(0, vectors.rows - 1, min(count, vectors.rows)).round())
    chosen, start = [], 0
    for block in vectors.blocks():
        here = wanted[(wanted >= start) & (wanted < start + len(block))].astype(int) - start
        chosen.append(unit(block.vectors[here]))
        start += len(block)
    return np.concatenate(chosen)
