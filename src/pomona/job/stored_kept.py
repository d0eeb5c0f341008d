"""The kept values of a table's rows by path: a row whose values have changed is made again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.table.row_index import KEY_TYPE, path_keys

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from pomona.table.feature_table import FeatureTable

__all__ = ["StoredKept"]

_BYTES = 8  # of the digest: only the old and the new values of one row are compared
_TYPE = f"V{_BYTES}"


class StoredKept:
    """Digests of the kept values of each row: 24 bytes for each row."""

    def __init__(self, table: FeatureTable, kept: pa.Schema) -> None:
        """Load the digests."""
        keys, digests = [np.array([], KEY_TYPE)], [np.array([], _TYPE)]
        for batch in table.batches(["path", *kept.names]):
            keys.append(path_keys(batch["path"].to_pylist()))
            values = (batch[name].to_pylist() for name in kept.names)
            digests.append(_digests(list(zip(*values, strict=True))))
        found = np.concatenate(keys)
        order = np.argsort(found, kind="stable")
        self._keys, self._digests = found[order], np.concatenate(digests)[order]

    def differ(self, paths: Sequence[str], values: Sequence[tuple[Any, ...]]) -> NDArray[np.bool_]:
        """Return whether the values of N paths that have a row differ from the row's: (N,) bool."""
        at = np.searchsorted(self._keys, path_keys(paths))
        differ: NDArray[np.bool_] = self._digests[at] != _digests(values)
        return differ


def _digests(rows: Sequence[tuple[Any, ...]]) -> NDArray[np.void]:
    texts = (repr(values).encode(errors="surrogatepass") for values in rows)
    return np.frombuffer(
        b"".join(hashlib.blake2b(text, digest_size=_BYTES).digest() for text in texts), _TYPE
    )
