"""Which paths of a list occurred before, in 16 bytes for each."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from pomona.io.remote import same_scheme

__all__ = ["SeenPaths"]

_KEY = "S16"


class SeenPaths:
    """The paths that were listed. `s3://` and `s3a://` name the same objects."""

    def __init__(self) -> None:
        self._sorted: list[np.ndarray[Any, np.dtype[np.bytes_]]] = []  # the largest first

    def add(self, paths: list[str]) -> list[bool]:
        """Add paths, and return for each whether it is new."""
        names = [same_scheme(path).encode() for path in paths]
        # The last byte is not zero: numpy would cut it off.
        digests = [hashlib.blake2b(name, digest_size=15).digest() + b"." for name in names]
        keys = np.array(digests, _KEY)
        fresh, first = np.unique(keys, return_index=True)
        is_new = np.zeros(len(keys), bool)
        is_new[first] = True
        for known in self._sorted:
            at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
            is_new &= known[at] != keys
        while self._sorted and len(self._sorted[-1]) <= len(fresh):
            fresh = np.union1d(self._sorted.pop(), fresh)
        self._sorted.append(fresh)
        return [bool(new) for new in is_new]
