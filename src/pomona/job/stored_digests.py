"""The digests of a table's contents by path, for sources without sizes and times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pomona.job.known_contents import content_keys
from pomona.table.row_index import KEY_TYPE, path_keys

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.job.known_contents import StoredContents

__all__ = ["StoredDigests"]


class StoredDigests:
    """The first 8 bytes of the digest of each row: 24 bytes for each row."""

    def __init__(self, table: StoredContents, parts: Sequence[str]) -> None:
        """Load the digests of some part files."""
        paths, contents = [np.array([], KEY_TYPE)], [np.array([], np.uint64)]
        for _, some, digests in table.contents_in(parts):
            known = [(path, digest) for path, digest in zip(some, digests, strict=True) if digest]
            paths.append(path_keys([path for path, _ in known]))
            contents.append(content_keys([digest for _, digest in known]))
        keys = np.concatenate(paths)
        order = np.argsort(keys, kind="stable")
        self._keys, self._contents = keys[order], np.concatenate(contents)[order]

    def differ(self, paths: Sequence[str], digests: Sequence[str | None]) -> NDArray[np.bool_]:
        """Return whether contents differ from those of the rows: (N,) bool.

        Args:
            paths: N paths that have a row.
            digests: SHA-256 of N contents now, in hex; None if there is no content.
        """
        has_content = np.array([digest is not None for digest in digests], bool)
        if not len(self._keys):
            return has_content
        keys, now = path_keys(paths), content_keys([digest or "0" for digest in digests])
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        had_content = self._keys[at] == keys
        differ: NDArray[np.bool_] = (had_content != has_content) | (
            had_content & (self._contents[at] != now)
        )
        return differ
