"""Folders of Parquet files that belong to another system, whose log says which files count.

A reader of plain Parquet would also read deleted and replaced rows of such a table. Files that its
log does not name are not part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from pomona.errors import TableError

if TYPE_CHECKING:
    from pomona.io.folders import Folder

__all__ = ["DELTA", "KINDS", "SINK", "Managed", "managed", "refuse_to_read", "refuse_to_write"]


@dataclass(frozen=True, slots=True)
class _Kind:
    """A system that manages folders of Parquet files.

    Attributes:
        name: the kind of table, with its article.
        marker: a file or folder in each of its tables; the last part is a pattern.
        reader: the call by which Spark reads it.
    """

    name: str
    marker: str
    reader: str


DELTA = _Kind("a Delta table", "_delta_log", "spark.read.format('delta').load(...)")
_HUDI = _Kind("a Hudi table", ".hoodie", "spark.read.format('hudi').load(...)")
_ICEBERG = _Kind("an Iceberg table", "metadata/*.metadata.json*", "spark.table(...)")
SINK = _Kind("the sink of a streaming query", "_spark_metadata", "spark.read.parquet(...)")
KINDS = (DELTA, SINK, _HUDI, _ICEBERG)


@dataclass(frozen=True, slots=True)
class Managed:
    """The system that manages a folder.

    Attributes:
        kind: the system.
        root: the folder with the system's log: the folder itself, or one above it.
    """

    kind: _Kind
    root: str

    def is_whole(self, folder: object) -> bool:
        """Return whether the folder is the whole table, not a part of it."""
        return self.root == str(folder)

    def _seen_from(self, folder: object) -> str:
        if self.is_whole(folder):
            return f"{folder} is {self.kind.name}"
        return f"{folder} is in {self.kind.name}, {self.root}"


def managed(folder: Folder) -> Managed | None:
    """Return the system that a folder of Parquet files belongs to; None for plain folders.

    Raises:
        OSError: the folder cannot be read. Unreadable folders above it are skipped, because
            credentials of an object store may be for a part of it only.
    """
    at: Folder | None = folder
    while at is not None:
        try:
            if kind := _kind_of(at):
                return Managed(kind, str(at))
        except OSError:
            if at is folder:
                raise
        at = at.parent()
    return None


def refuse_to_read(found: Managed, folder: object) -> TableError:
    """Return the error for reading a managed table."""
    seen = found._seen_from(folder)
    if found.kind is SINK:
        return TableError(f"{seen}, whose log says which files count: give {found.root} as TABLE")
    if found.kind is DELTA and not found.is_whole(folder):
        return TableError(
            f"{seen}, whose log says which files count: give {found.root} as TABLE, or in Spark "
            f"give {found.kind.reader} to pomona.spark.read_features"
        )
    return TableError(
        f"{seen}, but Pomona reads plain Parquet: in Spark give {found.kind.reader} to "
        "pomona.spark.read_features, or write it to another folder with .write.parquet(...)"
    )


def refuse_to_write(found: Managed, folder: object) -> TableError:
    """Return the error for writing into a managed table."""
    seen = found._seen_from(folder)
    if found.kind is SINK:
        return TableError(
            f"{seen}: its readers read only files that the query wrote, so they would not see "
            "rows from here; give another TABLE, or use pomona.featurize in the query"
        )
    return TableError(
        f"{seen}: its readers read only files that its log names, so they would not see rows "
        "from here; give another TABLE, and append from there with Spark"
    )


def _kind_of(folder: Folder) -> _Kind | None:
    return next((kind for kind in KINDS if _has(folder, kind.marker)), None)


def _has(folder: Folder, marker: str) -> bool:
    within, _, pattern = marker.rpartition("/")
    if not folder.has(within or pattern):
        return False
    if not within:
        return True
    return any(fnmatchcase(entry.name, pattern) for entry in folder.child(within).entries())
