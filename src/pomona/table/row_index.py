"""The index of a table's rows, without their vectors: enough to plan a run.

It takes about 48 bytes for each row, in arrays: 48 MB for a million rows. A set of their paths
would take 200 MB.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from itertools import compress
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pomona.io.remote import same_scheme

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "INDEX_COLUMNS",
    "INDEX_ROWS",
    "KEY_IN_SQL",
    "KEY_TYPE",
    "LABEL_IN_SQL",
    "NEVER",
    "NO_SIZE",
    "Contents",
    "FileState",
    "IndexBuilder",
    "IndexColumns",
    "NewLabels",
    "RowIndex",
    "RowsToDelete",
    "keys_of",
    "path_keys",
]

INDEX_COLUMNS = ["path", "size", "modified", "status", "label"]
"""The columns from which an index is built."""

INDEX_ROWS = 65_536
"""Number of rows that are read at once to build an index."""

_KEY_BYTES = 16  # of SHA-256: among a billion paths, two collide with probability 1e-20

KEY_TYPE = f"S{_KEY_BYTES}"
"""NumPy's type of an array of keys."""

_SAME_SCHEME = "regexp_replace(path, '^(?:(s3)[an]|(abfs)s)://', '$1$2://')"

KEY_IN_SQL = f"substring(unhex(sha2({_SAME_SCHEME}, 256)), 1, {_KEY_BYTES})"
"""The Spark SQL expression for a path's key, equal to `path_keys`."""

_LABEL_BYTES = 8  # of SHA-256: only the old and the new label of one row are compared
_LABEL_TYPE = f"S{_LABEL_BYTES}"
_NO_LABEL = b"\1" * _LABEL_BYTES

LABEL_IN_SQL = (
    f"coalesce(substring(unhex(sha2(label, 256)), 1, {_LABEL_BYTES}), unhex('{_NO_LABEL.hex()}'))"
)
"""The Spark SQL expression for a label's digest, as in an index."""

NO_SIZE = -1
"""In an index, stands for a null size."""

NEVER = int(np.iinfo(np.int64).min)
"""In an index, stands for a null time."""

RowsToDelete = dict[str, set[bytes]]
"""Rows to delete: name of the part file -> keys of their paths."""


Contents = tuple[str, list[str], list[str | None]]
"""Some rows of a part file: its name, their paths, and the digests of their contents."""

NewLabels = dict[str, dict[bytes, str | None]]
"""Labels to change: name of the part file -> key of the path -> its new label."""


class FileState(IntEnum):
    """The state of a listed file compared with the table."""

    NEW = 0
    """The file has no row."""
    DONE = 1
    """The file has a current row."""
    CHANGED = 2
    """Size or time differ from the row's, or the path has several rows."""
    FAILED = 3
    """The file has a current row without a vector."""


def path_keys(paths: Iterable[str]) -> NDArray[np.bytes_]:
    """Return keys of paths: the first 16 bytes of the SHA-256 of their UTF-8, (N,) `S16`.

    Paths whose schemes name the same storage, such as `s3a://` and `s3://`, have the same key.
    """
    return np.array(keys_of(paths), KEY_TYPE)


def keys_of(paths: Iterable[str]) -> list[bytes]:
    """Return keys of paths as `path_keys` does, with all of their bytes."""
    some = (same_scheme(path).encode() for path in paths)
    return [hashlib.sha256(path).digest()[:_KEY_BYTES] for path in some]


class IndexColumns(NamedTuple):
    """The columns of an index of N rows.

    Attributes:
        keys: (N,) as `path_keys` returns them.
        sizes: (N,) int64, bytes; -1 if the row has none.
        modified: (N,) int64, milliseconds since 1970; the smallest integer if it has none.
        ok: (N,) bool, whether the row has a vector.
        labels: (N,) `S8`, digests of the labels.
    """

    keys: NDArray[np.bytes_]
    sizes: NDArray[np.int64]
    modified: NDArray[np.int64]
    ok: NDArray[np.bool_]
    labels: NDArray[np.bytes_]


class IndexBuilder:
    """Collects the rows of a table, one part file after the other."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._numbers: list[NDArray[np.int32]] = []
        nothing = np.array([], np.int64)
        no_label = np.array([], _LABEL_TYPE)
        self._columns = [
            IndexColumns(np.array([], KEY_TYPE), nothing, nothing, nothing > 0, no_label)
        ]

    def add_rows(self, part: str, rows: pa.Table) -> None:
        """Add rows of a part file, with the columns `INDEX_COLUMNS`."""
        columns = IndexColumns(
            path_keys(rows["path"].to_pylist()),
            _numbers(rows["size"], NO_SIZE),
            _numbers(_milliseconds(rows["modified"]), NEVER),
            pc.equal(rows["status"], "ok").to_numpy(),
            _label_digests(rows["label"].to_pylist()),
        )
        self.add(part, columns)

    def add(self, part: str, rows: IndexColumns) -> None:
        """Add rows of a part file. The rows of one file must be added consecutively."""
        if not self._parts or self._parts[-1] != part:
            self._parts.append(part)
        self._numbers.append(np.full(len(rows.keys), len(self._parts) - 1, np.int32))
        self._columns.append(rows)

    def build(self) -> RowIndex:
        """Return the index of the added rows."""
        columns = [np.concatenate(column) for column in zip(*self._columns, strict=True)]
        numbers = np.concatenate([np.array([], np.int32), *self._numbers])
        order = np.argsort(columns[0], kind="stable")
        ordered = IndexColumns(*(column[order] for column in columns))
        return RowIndex(self._parts, numbers[order], ordered)


class RowIndex:
    """The rows of a table as they were when a run began."""

    def __init__(
        self, parts: list[str], part_numbers: NDArray[np.int32], rows: IndexColumns
    ) -> None:
        """Create an index of N rows in the order of their keys; use `IndexBuilder`.

        Args:
            parts: names of part files.
            part_numbers: (N,) index of the part file of each row.
            rows: the rows.
        """
        self._parts = parts
        self._part_numbers = part_numbers
        self._keys, self._sizes, self._modified, self._ok, self._labels = rows
        self._seen = np.zeros(len(rows.keys), bool)
        self._deleted = np.zeros(len(rows.keys), bool)
        self._known_sizes: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._keys)

    def states(
        self,
        paths: Sequence[str],
        sizes: Sequence[int | None],
        modified: Sequence[int | None],
    ) -> list[FileState]:
        """Return the states of files, and count them as listed from now on.

        Args:
            paths: N paths, as in the table.
            sizes: N sizes in bytes; None if a size is unknown.
            modified: N times in milliseconds since 1970; None if a time is unknown.
        """
        if not len(self):
            return [FileState.NEW] * len(paths)
        first, count = self._found(paths)
        at = np.minimum(first, len(self) - 1)
        same = (self._sizes[at] == [NO_SIZE if s is None else s for s in sizes]) & (
            self._modified[at] == [NEVER if m is None else m for m in modified]
        )
        found = np.where(self._ok[at], FileState.DONE, FileState.FAILED)
        found = np.where(same & (count == 1), found, FileState.CHANGED)
        return [FileState(verdict) for verdict in np.where(count == 0, FileState.NEW, found)]

    def known(self, paths: Sequence[str]) -> list[FileState]:
        """Return the states of images by their paths alone, and count them as listed from now on.

        A path with several rows is `CHANGED`.
        """
        if not len(self):
            return [FileState.NEW] * len(paths)
        first, count = self._found(paths)
        found = np.where(
            self._ok[np.minimum(first, len(self) - 1)], FileState.DONE, FileState.FAILED
        )
        found = np.where(count == 1, found, FileState.CHANGED)
        return [FileState(verdict) for verdict in np.where(count == 0, FileState.NEW, found)]

    def _found(self, paths: Sequence[str]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the first row and the number of rows of each path, and count them as listed."""
        keys = path_keys(paths)
        first = np.searchsorted(self._keys, keys, "left")
        count = np.searchsorted(self._keys, keys, "right") - first
        for start, rows in zip(first[count > 0], count[count > 0], strict=True):
            self._seen[start : start + rows] = True
        return first, count

    def has_other_label(
        self, paths: Sequence[str], labels: Sequence[str | None]
    ) -> NDArray[np.bool_]:
        """Return whether the rows of paths have other labels than these: (N,) bool.

        A path without a row has no other label.
        """
        if not len(self):
            return np.zeros(len(paths), bool)
        keys = path_keys(paths)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self) - 1)
        differ = self._labels[at] != _label_digests(labels)
        found: NDArray[np.bool_] = differ & (self._keys[at] == keys)
        return found

    def parts_of(self, paths: Sequence[str]) -> set[str]:
        """Return the part files with the rows of these paths."""
        at = np.searchsorted(self._keys, path_keys(paths))
        return {self._parts[number] for number in np.unique(self._part_numbers[at])}

    def has_vector_of_size(self, sizes: Sequence[int | None]) -> NDArray[np.bool_]:
        """Return whether there are rows with a vector for files of these sizes: (N,) bool."""
        if self._known_sizes is None:
            self._known_sizes = np.unique(self._sizes[self._ok])
        return np.isin([NEVER if size is None else size for size in sizes], self._known_sizes)

    @property
    def parts(self) -> list[str]:
        """Return the names of all part files with a row that is not deleted."""
        return [self._parts[number] for number in np.unique(self._part_numbers[~self._deleted])]

    def listed(self, paths: Sequence[str]) -> Iterator[str]:
        """Yield the paths among these that have a row and whose files were listed."""
        if len(self):
            keys = path_keys(paths)
            at = np.minimum(np.searchsorted(self._keys, keys), len(self) - 1)
            yield from compress(paths, (self._keys[at] == keys) & self._seen[at])

    def rows_of(self, paths: Sequence[str]) -> RowsToDelete:
        """Return the rows of these paths by part file, and count them as deleted from now on."""
        keys = path_keys(paths)
        places: RowsToDelete = defaultdict(set)
        left = np.searchsorted(self._keys, keys, "left")
        right = np.searchsorted(self._keys, keys, "right")
        for key, start, end in zip(keys, left, right, strict=True):
            self._deleted[start:end] = True
            for number in self._part_numbers[start:end]:
                places[self._parts[number]].add(_all_bytes(key))
        return dict(places)

    def parts_with_unlisted(self) -> list[str]:
        """Return the part files with rows whose files were not listed."""
        return [self._parts[number] for number in np.unique(self._part_numbers[~self._seen])]

    def unlisted(self, paths: Sequence[str]) -> Iterator[str]:
        """Yield the paths among these that have a row and whose files were not listed."""
        if len(self):
            keys = path_keys(paths)
            at = np.minimum(np.searchsorted(self._keys, keys), len(self) - 1)
            yield from compress(paths, (self._keys[at] == keys) & ~self._seen[at])


def _label_digests(labels: Sequence[str | None]) -> NDArray[np.bytes_]:
    """Return digests of labels, (N,) `S8`."""
    known: dict[str | None, bytes] = {None: _NO_LABEL}
    for label in set(labels) - {None}:
        assert label is not None  # noqa: S101 - for the type checker
        known[label] = hashlib.sha256(label.encode()).digest()[:_LABEL_BYTES]
    return np.array([known[label] for label in labels], _LABEL_TYPE)


def _all_bytes(key: np.bytes_) -> bytes:
    """Return all bytes of a key: NumPy drops zeros at the end."""
    return bytes(key).ljust(_KEY_BYTES, b"\0")


def _milliseconds(times: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return integer milliseconds since 1970, whatever unit an engine wrote."""
    return times.cast(pa.timestamp("ms", tz="UTC"), safe=False).cast(pa.int64())


def _numbers(column: pa.ChunkedArray, null: int) -> NDArray[np.int64]:
    numbers: NDArray[np.int64] = pc.fill_null(column.cast(pa.int64()), null).to_numpy()
    return numbers
