"""Reading a feature table without loading it. Writing: `pomona.table.writer`.

A table is a directory of Parquet part files with one schema, `pomona.schema.FEATURE_SCHEMA`. Rows
are added by renaming a complete file into it, so readers never see an incomplete part file.
`pomona.table.parts` says which files are read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pomona._version import __version__
from pomona.errors import TableError, UsageError
from pomona.io.folders import ArrowFolder, Folder, LocalFolder, folder_at
from pomona.io.location import (
    canonical,
    check_output_here,
    check_spelling,
    is_remote,
    local_path,
    other_kind,
    without_password,
)
from pomona.io.remote import same_scheme
from pomona.schema import FEATURE_SCHEMA, QUALITY_COLUMNS
from pomona.table.delta_store import DeltaStore
from pomona.table.makers import one_provenance
from pomona.table.managed_folders import DELTA, managed, refuse_to_write
from pomona.table.part_file import ROW_GROUP_ROWS
from pomona.table.part_rows import opened_part, rows_of_part
from pomona.table.parts import Part, stored_parts
from pomona.table.remote_store import RemoteStore
from pomona.table.row_encoders import check_only_known_columns, part_provenance, row_makers
from pomona.table.row_index import INDEX_COLUMNS, INDEX_ROWS, Contents, IndexBuilder, RowIndex
from pomona.table.store import LocalStore, Store, part_entries

__all__ = [
    "RUNNING",
    "STAGING",
    "FeatureTable",
    "check_output",
    "is_table_file",
    "partitioned",
]

STAGING = "_staging-"
"""The prefix of the folder in which a run writes, and which is deleted when the run ends."""

RUNNING = "_running-"
"""The prefix of a writer's lease file on a storage without locks (`pomona.table.lease`)."""


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """A feature table that exists or that a run will write.

    Attributes:
        folder: its folder on this machine.
        far: its location on another file system; `folder` is then unused.
        delta: whether a new table becomes a Delta table. An existing one stays what it is.
    """

    folder: Path
    far: ArrowFolder | None = None
    delta: bool = False

    @classmethod
    def at(cls, path: str | os.PathLike[str], *, delta: bool = False) -> FeatureTable:
        """Return the table at a path or a URI.

        Tables of other file systems can be read. Without Spark, only those in object stores, such
        as `s3://bucket/features`, can be written.

        Raises:
            TableError: the path is not valid, or its file system cannot be reached.
        """
        path = os.path.expanduser(os.fspath(path))  # noqa: PTH111 - a URI is not a Path
        if not path or not path.isprintable():
            raise TableError(f"TABLE {path!r} is not a valid folder name: give another one")
        check_spelling(path, "TABLE", TableError)
        if not is_remote(path):
            return cls(Path(local_path(path)), delta=delta)
        if delta:
            raise TableError(
                f"TABLE {without_password(path)} is not on this machine, and Pomona writes Delta "
                "tables only here: give a path, or on Spark write the result of pomona.featurize "
                "there"
            )
        path = canonical(path)
        shown = without_password(path)
        try:
            return cls(Path(shown), folder_at(path, shown))
        except OSError as error:
            raise TableError(f"cannot read TABLE {shown}: {error}") from error

    @classmethod
    def of(cls, table: FeatureTable | str | os.PathLike[str]) -> FeatureTable:
        """Return the table for a table object, a path or a URI.

        Raises:
            TableError: the path is not valid, or its file system cannot be reached.
        """
        return table if isinstance(table, FeatureTable) else cls.at(table)

    def __str__(self) -> str:
        return str(self.folder if self.far is None else self.far)

    def is_same_as(self, other: FeatureTable) -> bool:
        """Return whether both are the same folder."""
        if self.far is None and other.far is None:
            return self.folder.resolve() == other.folder.resolve()
        return same_scheme(str(self)) == same_scheme(str(other))

    def exists(self) -> bool:
        """Return whether there is a table: part files, partitions, or a table of another system."""
        with self._reading():
            place = self._place
            found = managed(place)
            if found is None or (found.kind is DELTA and found.is_whole(place)):
                return next(stored_parts(place), None) is not None
            return True

    @property
    def store(self) -> Store:
        """The files of the table."""
        if self.far is not None:
            return RemoteStore(self.far)
        is_delta = self.delta or (self.folder / DELTA.marker).is_dir()
        return DeltaStore(self.folder) if is_delta else LocalStore(self.folder)

    def parts(self) -> Iterator[Path]:
        """Yield the paths of the part files directly in a folder of this machine."""
        if self.folder.is_dir():
            yield from (self.folder / part.name for part in self.own_parts())

    def own_parts(self) -> Iterator[Part]:
        """Yield the part files directly in the folder. A writer uses only these."""
        for name in sorted(part_entries(self.store)):
            yield Part(self._place, name)

    def stored_parts(self) -> Iterator[Part]:
        """Yield all part files to read, including partitions and other file systems.

        Raises:
            TableError: another system, such as Delta, manages the folder; or it cannot be read.
        """
        with self._reading():
            yield from stored_parts(self._place)

    @property
    def _place(self) -> Folder:
        return LocalFolder(self.folder) if self.far is None else self.far

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TableError(f"cannot read TABLE {self}: {error.strerror or error}") from error

    def check(self) -> None:
        """Check that the folder is a feature table, or can become one.

        Raises:
            TableError: it cannot, or two encoders made its part files.
        """
        self.check_folder()
        if self.exists():
            self.provenance()

    def check_folder(self) -> None:
        """Check by names only that the folder is or can become a table. No part file is opened.

        Raises:
            TableError: it is a file, contains something else, or is not writable.
        """
        if self.far is not None and not self.far.is_written_directly:
            raise TableError(
                f"TABLE {self} is not on this machine: write it on Spark, with `master`"
            )
        try:
            self._look_at_folder()
        except OSError as error:
            raise TableError(f"cannot use {self}: {error.strerror or error}") from error

    def _look_at_folder(self) -> None:
        if found := managed(self._place):
            if self.far is not None or found.kind is not DELTA or not found.is_whole(self._place):
                raise refuse_to_write(found, self._place)
            if any("/" in part.name for part in stored_parts(self._place)):
                raise refuse_to_write(found, self._place)
            DeltaStore(self.folder).check()
        elif self.delta and next(stored_parts(self._place), None):
            raise TableError(
                f"{self} is a table of plain Parquet files: leave `table_format` out, or give "
                "another TABLE"
            )
        if strange := self._strange_name():
            if (part := next(stored_parts(self._place), None)) and "/" in part.name:
                raise TableError(partitioned(self, part.name))
            if self._has_rows():
                raise TableError(
                    f"{self} is a feature table that also contains {strange!r}: move that away, "
                    "because readers expect only rows in a table"
                )
            raise TableError(
                f"{self} exists and is not a feature table (it holds {strange!r}): give another "
                "TABLE"
            )
        if self.far is None:
            self._look_above()

    def _look_above(self) -> None:
        """Check the folders above one on this machine, in which the table would be created."""
        if self.folder.is_dir():
            pass
        elif self.folder.exists() or self.folder.is_symlink():
            raise TableError(f"{self.folder} is a file: TABLE must be a new or existing folder")
        elif FeatureTable(self.folder.absolute().parent).is_table():
            raise TableError(
                f"{self.folder} is in a feature table, whose readers would read it as rows: give "
                "another TABLE"
            )
        existing = next(p for p in (self.folder, *self.folder.absolute().parents) if p.exists())
        if not existing.is_dir():
            raise TableError(
                f"{self.folder} would be below {existing}, which is a file: give another TABLE"
            )
        if not os.access(existing, os.W_OK | os.X_OK):
            raise TableError(f"no permission to write in {existing}: give another TABLE")

    def is_table(self) -> bool:
        """Return whether the folder contains a feature table and nothing else."""
        return self._strange_name() is None and self._has_rows()

    def _strange_name(self) -> str | None:
        """Return a name in the folder that does not belong to a feature table, or None.

        Hidden names are allowed: desktops and notebooks create them everywhere.
        """
        for name, is_folder in self._names():
            is_log = is_folder and name == DELTA.marker and self.far is None
            if not (name[0] == "." or is_log or is_table_file(name, is_folder=is_folder)):
                return name
        return None

    def _names(self) -> Iterator[tuple[str, bool]]:
        """Yield the names in the folder, and whether each is a folder and not a link to one."""
        if self.far is not None:
            yield from ((entry.name, entry.is_folder) for entry in self.far.entries())
        elif self.folder.is_dir():
            with os.scandir(self.folder) as entries:
                yield from ((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)

    def _has_rows(self) -> bool:
        part = next(self.own_parts(), None)
        try:
            return part is not None and "fingerprint" in row_makers(part)[0]
        except TableError:
            return False

    def provenance(self) -> dict[str, str]:
        """Return the provenance of the rows. All part files must have the same fingerprint.

        Raises:
            TableError: there are no part files, a part is not one of a feature table, or two
                encoders made the rows.
        """
        with self._reading():
            parts = self.stored_parts()
            makers = ((part.name, maker) for part in parts for maker in row_makers(part))
            found = one_provenance(self, makers)
            if found is None:
                there = self.folder.is_dir() or any(self._place.entries())
                what = "has no .parquet files" if there else "does not exist"
                if self.far is None and self.folder.is_file():
                    what = "is a file, expected a folder"
                raise TableError(f"{self} is not a feature table: it {what}")
        return found

    def check_continuable(
        self, provenance: Mapping[str, str], kept: pa.Schema | None = None
    ) -> None:
        """Check that this version can copy and merge the part files without loss.

        Args:
            provenance: of the rows.
            kept: additional columns that the run writes.

        Raises:
            TableError: a part has additional columns, or its footer lacks the provenance of its
                rows.
        """
        for part in self.own_parts():
            check_only_known_columns(part, provenance, kept)

    def index(self) -> RowIndex:
        """Return an index of the rows and the states of their files. Vectors are not read."""
        builder = IndexBuilder()
        for part in self.stored_parts():
            for rows in rows_of_part(part, INDEX_COLUMNS, INDEX_ROWS):
                builder.add_rows(part.name, rows)
        return builder.build()

    def paths_in(self, parts: Iterable[str]) -> Iterator[list[str]]:
        """Yield the paths of all rows in part files with these names, some thousand at a time."""
        for name in parts:
            for rows in rows_of_part(Part(self._place, name), ["path"], INDEX_ROWS):
                yield rows["path"].to_pylist()

    def contents_in(self, parts: Iterable[str]) -> Iterator[Contents]:
        """Yield the paths of rows and the digests of their contents, some thousand at a time."""
        for name in parts:
            columns = ["path", "content_sha256"]
            for rows in rows_of_part(Part(self._place, name), columns, INDEX_ROWS):
                yield name, rows["path"].to_pylist(), rows["content_sha256"].to_pylist()

    def rows_with(self, digests: Mapping[str, Sequence[str]]) -> Iterator[pa.RecordBatch]:
        """Yield rows with a vector that this version of Pomona made, by part file and digests.

        A row with a vector but no brightness is of an earlier version.
        """
        there = part_entries(self.store)
        for name, some in digests.items():
            part, wanted = Part(self._place, name), pa.array(some, pa.string())
            if name not in there or part_provenance(part).get("pomona_version") != __version__:
                continue
            with opened_part(part, FEATURE_SCHEMA.names) as file:
                if not set(QUALITY_COLUMNS) <= set(file.schema_arrow.names):
                    continue
                for group in range(file.num_row_groups):
                    found = file.read_row_group(group, ["content_sha256"])["content_sha256"]
                    if not pc.any(pc.is_in(found, wanted)).as_py():
                        continue
                    rows = file.read_row_group(group, FEATURE_SCHEMA.names)
                    rows = rows.select(FEATURE_SCHEMA.names).cast(FEATURE_SCHEMA)
                    is_one = pc.and_(
                        pc.is_in(rows["content_sha256"], wanted), rows["brightness"].is_valid()
                    )
                    yield from rows.filter(is_one).to_batches()

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows as record batches in the table's schema, whichever engine wrote them.

        Args:
            columns: names of the columns to read; by default all.

        Raises:
            TableError: a part file is damaged, or lacks a column.
        """
        for part in self.stored_parts():
            for rows in rows_of_part(part, columns or FEATURE_SCHEMA.names, ROW_GROUP_ROWS):
                yield from rows.to_batches()


def partitioned(table: object, part: str) -> str:
    """Return the error for writing into a table with partitions."""
    return (
        f"{table} is partitioned (it contains {part}): Pomona reads such tables, but does not "
        "write them; give another TABLE, and write partitions from there with Spark"
    )


def check_output(file: Path) -> None:
    """Check before the work that a file can be written.

    Raises:
        UsageError: it is a folder or a device, its folder does not exist or is not writable, or it
            would be in a feature table.
    """
    file = check_output_here(file, UsageError)
    folder = file.absolute().parent
    if kind := other_kind(file):
        raise UsageError(f"{file} is {kind}: give a file's name")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{file}: {folder} is a file, expected a folder")
    if not folder.is_dir():
        raise UsageError(f"{file}: there is no folder {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{file}: no permission to write in {folder}")
    if FeatureTable(folder).is_table():
        raise UsageError(
            f"{file} is in a feature table, which contains only rows: write it elsewhere"
        )


def is_table_file(name: str, *, is_folder: bool) -> bool:
    """Return whether a name may be in the folder of a feature table."""
    if is_folder:
        return name.startswith((STAGING, "_temporary"))
    return (
        (name.endswith(".parquet") and not name.startswith("_"))
        or name == "_SUCCESS"
        or name.startswith(RUNNING)
        or (name.startswith(".") and name.endswith(".crc"))
    )
