"""Vectors that a table already has: rows for new paths whose files have the same bytes as a row.

A moved or renamed file is read and hashed, but the network does not run. Only files with the size
of a row are hashed. Rows are found by the first 8 bytes of their digests. These take 12 bytes for
each row, and are loaded only if there is such a file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.source.image_file import ImageFile
    from pomona.table.row_index import Contents

__all__ = ["KnownContents", "StoredContents", "content_keys", "rows_for"]


class StoredContents(Protocol):
    """The interface of a table for finding contents."""

    def contents_in(self, parts: Iterable[str]) -> Iterator[Contents]:
        """Yield names of part files, paths and digests, some thousand rows at a time."""

    def rows_with(self, digests: Mapping[str, Sequence[str]]) -> Iterator[pa.RecordBatch]:
        """Yield rows with status `ok` of this version, by part file and digests of contents."""


class KnownContents:
    """Finds rows by the digest of their content."""

    def __init__(self, table: StoredContents, parts: Sequence[str], max_pixels: int) -> None:
        """Load the digests.

        Args:
            table: the table with the rows.
            parts: names of its part files.
            max_pixels: rows of larger images are ignored.
        """
        self._table = table
        self._parts = parts
        self._max_pixels = max_pixels
        keys, numbers = [np.array([], np.uint64)], [np.array([], np.int32)]
        at = {part: number for number, part in enumerate(parts)}
        for part, _, digests in table.contents_in(parts):
            known = [digest for digest in digests if digest]
            keys.append(content_keys(known))
            numbers.append(np.full(len(known), at[part], np.int32))
        found = np.concatenate(keys)
        order = np.argsort(found, kind="stable")
        self._keys, self._numbers = found[order], np.concatenate(numbers)[order]

    def find(self, digests: Iterable[str]) -> pa.Table:
        """Return one row for each of these digests for which the table has a vector."""
        wanted: dict[str, list[str]] = defaultdict(list)
        several = sorted(set(digests))
        keys = content_keys(several)
        first = np.searchsorted(self._keys, keys, "left")
        last = np.searchsorted(self._keys, keys, "right")
        for digest, start, end in zip(several, first, last, strict=True):
            for number in np.unique(self._numbers[start:end]):
                wanted[self._parts[number]].append(digest)
        kept: list[pa.Table] = []
        seen: set[str] = set()
        for batch in self._table.rows_with(wanted) if wanted else ():
            sizes = zip(batch["width"].to_pylist(), batch["height"].to_pylist(), strict=True)
            takes = []
            for digest, (width, height) in zip(
                batch["content_sha256"].to_pylist(), sizes, strict=True
            ):
                fits = width is not None and height is not None
                takes.append(fits and width * height <= self._max_pixels and digest not in seen)
                if takes[-1]:
                    seen.add(digest)
            kept.append(pa.Table.from_batches([batch.filter(pa.array(takes, pa.bool_()))]))
        return pa.concat_tables(kept) if kept else pa.table({"content_sha256": pa.array([], "str")})


def rows_for(
    files: Sequence[ImageFile],
    labels: Sequence[str | None],
    digests: Sequence[str],
    rows: pa.Table,
    kept: pa.Schema,
) -> pa.Table:
    """Return rows for files with known contents, the same as if each had been computed.

    Args:
        files: N listed files.
        labels: labels of the N files.
        digests: digests of the N contents.
        rows: a table with a row for each digest.
        kept: columns of the source that the rows have after those of every table.
    """
    at = {digest: i for i, digest in enumerate(rows["content_sha256"].to_pylist())}
    made = rows.take(pa.array([at[digest] for digest in digests]))
    columns = {
        "path": [file.uri for file in files],
        "label": labels,
        "size": [file.size for file in files],
        "modified": [file.modified and file.modified * 1000 for file in files],
    }
    for name, values in columns.items():
        field = made.schema.field(name)
        made = made.set_column(
            made.schema.get_field_index(name), field, pa.array(values, field.type)
        )
    for at_column, field in enumerate(kept):
        values = [file.kept[at_column] for file in files]
        made = made.append_column(field, pa.array(values, field.type))
    return made


def content_keys(digests: Sequence[str]) -> NDArray[np.uint64]:
    """Return the first 8 bytes of digests in hex: (N,) uint64."""
    return np.array([int(digest[:16], 16) for digest in digests], np.uint64)
