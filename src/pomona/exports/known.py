"""Which rows a database has already, and whether they are the same: 32 bytes for each row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["Known", "keys_of"]

_DIGEST = "S16"  # of SHA-256: among a billion paths, two collide with probability 1e-20


class Known:
    """The rows of a database when the export began."""

    def __init__(self, listed: Iterable[pa.RecordBatch]) -> None:
        """Read the rows.

        Args:
            listed: columns `pomona.exports.target.LISTED`.
        """
        keys, states = [np.array([], _DIGEST)], [np.array([], _DIGEST)]
        for rows in listed:
            keys.append(keys_of(rows["path"]))
            states.append(_states_of(rows))
        joined = np.concatenate(keys)
        order = np.argsort(joined)
        self._keys, self._states = joined[order], np.concatenate(states)[order]

    def compare(self, rows: pa.RecordBatch) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which of B rows are new, and which have changed: (B,) bool each."""
        if not len(self._keys):
            return np.ones(rows.num_rows, bool), np.zeros(rows.num_rows, bool)
        keys, states = keys_of(rows["path"]), _states_of(rows)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        is_new = self._keys[at] != keys
        return is_new, ~is_new & ((self._states[at] != states) | (states == b""))

    def others(self, keys: NDArray[np.bytes_]) -> NDArray[np.bytes_]:
        """Return the keys of rows that are not among these."""
        return np.setdiff1d(self._keys, keys)


def keys_of(paths: pa.Array) -> NDArray[np.bytes_]:
    """Return digests of paths, (N,) `S16`."""
    digests = [hashlib.sha256(path.encode()).digest()[:16] for path in paths.to_pylist()]
    return np.array(digests, _DIGEST)


def _states_of(rows: pa.RecordBatch) -> NDArray[np.bytes_]:
    """Return digests of content and label; empty for a row whose content has no digest."""
    pairs = zip(rows["content_sha256"].to_pylist(), rows["label"].to_pylist(), strict=True)
    states = [
        b"" if content is None else hashlib.sha256(repr((content, label)).encode()).digest()[:16]
        for content, label in pairs
    ]
    return np.array(states, _DIGEST)
