"""Groups of rows: all rows that a chain of pairs connects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Groups"]

_EDGES = 4_000_000  # pairs to collect, 64 MB, before the groups that they connect are merged


class Groups:
    """The groups of N rows, merged pair by pair. Memory does not grow with the number of pairs."""

    def __init__(self, rows: int) -> None:
        self._component = np.arange(rows, dtype=np.int32)
        self._pairs: list[tuple[NDArray[np.int32], NDArray[np.int32]]] = []
        self._count = 0

    def connect(self, ones: NDArray[np.intp], others: NDArray[np.intp]) -> None:
        """Connect each row of `ones` with the row of `others` at the same place."""
        one, other = self._component[ones], self._component[others]
        new = one != other
        self._pairs.append((one[new], other[new]))
        self._count += int(new.sum())
        if self._count >= _EDGES:
            self._merge()

    def component(self) -> NDArray[np.int32]:
        """Return the group of each row: (N,) int32, equal for rows of one group."""
        self._merge()
        return self._component

    def _merge(self) -> None:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        if not self._count:
            return
        one, other = (np.concatenate(ends) for ends in zip(*self._pairs, strict=True))
        shape = (len(self._component),) * 2
        graph = coo_array((np.ones(len(one), bool), (one, other)), shape)
        _, merged = connected_components(graph, directed=False)
        self._component = merged.astype(np.int32)[self._component]
        self._pairs, self._count = [], 0
