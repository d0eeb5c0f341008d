"""The rows nearest to a row or to a text, by the codes of a map."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pomona.analysis.vectors import unit
from pomona.errors import EncoderError
from pomona.runtime.text import text_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.analysis.look.placing import Placed
    from pomona.encoder.encoder import Encoder

__all__ = ["Nearest"]

_BLOCK_BYTES = 2**25


class Nearest:
    """Finds near rows, with the similarities of `pomona.search`."""

    def __init__(self, placed: Placed, encoder: Encoder | None) -> None:
        """Use an encoder with a text tower for texts; None if there is none."""
        self._placed = placed
        self._encoder = encoder
        self._one = threading.Lock()  # a text tower is for one thread, and memory for one search

    def to_row(self, row: int, k: int) -> list[tuple[int, float]]:
        """Return the k rows nearest to a row, without itself, each with its similarity."""
        query = self._placed.codes[row].astype(np.float32)
        with self._one:
            found = self._products(query)
        found[row] = -np.inf
        return _largest(found, min(k, len(found) - 1))

    def to_text(self, text: str, k: int) -> list[tuple[int, float]]:
        """Return the k rows nearest to a text, each with its similarity.

        Raises:
            EncoderError: there is no text tower, or it cannot be loaded.
        """
        if self._encoder is None:
            raise EncoderError("the table's encoder has no text tower")
        with self._one:
            (vector,) = unit(text_vectors(self._encoder, [text]))
            found = self._products(self._placed.axes @ vector)
        # A vector is the centre and its direction times its distance.
        found = float(self._placed.centre @ vector) + self._placed.distances * found
        found /= np.maximum(self._placed.lengths, np.finfo(np.float32).tiny)
        return _largest(found, min(k, len(found)))

    def _products(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the inner product of a query (R,) and each code: (N,) float32."""
        return np.concatenate([block @ query for block in self._blocks()])

    def _blocks(self) -> Iterator[NDArray[np.float32]]:
        codes = self._placed.codes
        size = max(1, _BLOCK_BYTES // (4 * codes.shape[1]))
        for start in range(0, len(codes), size):
            yield codes[start : start + size].astype(np.float32)


def _largest(values: NDArray[np.float32], k: int) -> list[tuple[int, float]]:
    """Return the numbers and values of the k largest, the largest first."""
    if k <= 0:
        return []
    near = np.argpartition(values, len(values) - k)[-k:]
    near = near[np.argsort(-values[near], kind="stable")]
    return list(zip(near.tolist(), values[near].tolist(), strict=True))
