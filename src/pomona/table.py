"""The feature table: what is in it, read without loading it. Writing: `pomona.table_writer`.

A table is a directory of Parquet part files with one schema, `pomona.schema.FEATURE_SCHEMA`. Rows
join it by the renaming of a whole file, so whoever reads it sees a part file whole or not at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pomona.errors import TableError
from pomona.location import is_remote, local_path
from pomona.part_files import ROW_GROUP_ROWS
from pomona.row_index import INDEX_COLUMNS, IndexBuilder, RowIndex
from pomona.schema import FEATURE_SCHEMA, read_provenance

__all__ = ["STAGING", "FeatureTable", "check_same_maker", "is_table_file", "part_provenance"]

STAGING = "_staging-"
"""What the name of a folder begins with in which a run writes; it goes when the run ends."""

_INDEX_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """A feature table on this machine's file system, present or yet to be written."""

    folder: Path

    @classmethod
    def at(cls, path: str) -> FeatureTable:
        """The table at a path or a `file:` URI.

        Raises:
            TableError: the path is on another file system.
        """
        if is_remote(path):
            raise TableError(f"TABLE {path} is not on this machine: read it with Spark")
        if not path or not path.isprintable():
            raise TableError(f"TABLE {path!r} is no name for a folder: give another one")
        return cls(Path(local_path(path)))

    def exists(self) -> bool:
        """Whether the folder holds part files."""
        return next(self.parts(), None) is not None

    def parts(self) -> Iterator[Path]:
        """The part files, in the order of their names. Names with `_` or `.` in front are none."""
        if self.folder.is_dir():
            yield from sorted(
                path
                for path in self.folder.glob("*.parquet")
                if not path.name.startswith((".", "_"))
            )

    def check(self) -> None:
        """Make sure that the folder is a feature table, or free to become one.

        Raises:
            TableError: as `check_folder` and `provenance` do.
        """
        self.check_folder()
        if self.exists():
            self.provenance()

    def check_folder(self) -> None:
        """Make sure of the same as far as names tell: no part file is opened.

        Raises:
            TableError: it is a file, holds something else, or may not be written.
        """
        try:
            self._look_at_folder()
        except OSError as error:
            raise TableError(f"cannot use {self.folder}: {error.strerror or error}") from error

    def _look_at_folder(self) -> None:
        if self.folder.is_dir():
            # Hidden names are left in peace: desktops and notebooks leave theirs everywhere.
            names = [p for p in self.folder.iterdir() if not p.name.startswith(".")]
            strange = [p.name for p in names if not is_table_file(p)]
            if strange:
                raise TableError(
                    f"{self.folder} exists and is not a feature table (it holds {strange[0]!r}): "
                    "give another TABLE"
                )
        elif self.folder.exists() or self.folder.is_symlink():
            raise TableError(f"{self.folder} is a file: TABLE must be a new or existing folder")
        existing = next(p for p in (self.folder, *self.folder.absolute().parents) if p.exists())
        if not os.access(existing, os.W_OK | os.X_OK):
            raise TableError(f"no permission to write in {existing}: give another TABLE")

    def provenance(self) -> dict[str, str]:
        """What made the rows: of every part file, which must agree on the fingerprint.

        Raises:
            TableError: no part files, a part that is no feature table's, or two encoders.
        """
        first: dict[str, str] | None = None
        for part in self.parts():
            found = part_provenance(part)
            if first is None:
                first = found
            elif _maker(found) != _maker(first):
                raise TableError(
                    f"{self.folder} mixes rows of two encoders, or of two ways of decoding: "
                    f"{_named(first)} and {_named(found)} in {part.name}"
                )
        if first is None:
            raise TableError(f"{self.folder} is not a feature table: it has no .parquet files")
        return first

    def index(self) -> RowIndex:
        """What has a row, and from which state of its file. Vectors are not read."""
        builder = IndexBuilder()
        for part in self.parts():
            with pq.ParquetFile(part) as file:
                for batch in file.iter_batches(columns=INDEX_COLUMNS, batch_size=_INDEX_ROWS):
                    builder.add_rows(part.name, pa.Table.from_batches([batch]))
        return builder.build()

    def paths_in(self, parts: Iterable[str]) -> Iterator[list[str]]:
        """The paths of all rows in some part files, by their names; some thousand at a time."""
        for name in parts:
            with pq.ParquetFile(self.folder / name) as file:
                for batch in file.iter_batches(columns=["path"], batch_size=_INDEX_ROWS):
                    yield batch["path"].to_pylist()

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows, streamed, in the table's schema whichever engine wrote them."""
        names = columns or FEATURE_SCHEMA.names
        schema = pa.schema([FEATURE_SCHEMA.field(name) for name in names])
        for part in self.parts():
            with pq.ParquetFile(part) as file:
                for batch in file.iter_batches(columns=names, batch_size=ROW_GROUP_ROWS):
                    table = pa.Table.from_batches([batch]).select(names).cast(schema)
                    yield from table.to_batches()


def check_same_maker(table: object, found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Make sure that rows made in this way may join a table.

    Args:
        table: its name, for errors.
        found: the table's provenance.
        wanted: that of the rows to come.

    Raises:
        TableError: another encoder, or another way of decoding, made the table.
    """
    if found["fingerprint"] != wanted["fingerprint"]:
        raise TableError(
            f"{table} was made by another encoder: it has {_named(found)}, this run has "
            f"{_named(wanted)}; give another TABLE, or --overwrite to replace it"
        )
    if found.get("decode") != wanted.get("decode"):
        raise TableError(
            f"{table} was made with --decode {found.get('decode')}, this run has --decode "
            f"{wanted.get('decode')}, and their features differ slightly; give the same, another "
            "TABLE, or --overwrite to replace it"
        )


def part_provenance(part: Path) -> dict[str, str]:
    """What made the rows of one part file.

    Raises:
        TableError: it is damaged, or no feature table's.
    """
    try:
        found = read_provenance(pq.read_schema(part))
    except (OSError, pa.ArrowInvalid, json.JSONDecodeError) as error:
        raise TableError(
            f"{part} is not a readable Parquet file ({error}): remove it, and the next run does "
            "its images again"
        ) from error
    if "fingerprint" not in found:
        raise TableError(
            f"{part.parent} exists and is not a feature table: {part.name} does not say which "
            "encoder made it"
        )
    return found


def is_table_file(path: Path) -> bool:
    """Whether a file is one that a feature table's folder may hold."""
    name = path.name
    if path.is_dir():
        return name.startswith((STAGING, "_temporary"))
    return (
        (name.endswith(".parquet") and not name.startswith("_"))
        or name == "_SUCCESS"
        or (name.startswith(".") and name.endswith(".crc"))
    )


def _named(provenance: Mapping[str, str]) -> str:
    details = [provenance["fingerprint"][:12]]
    if (precision := provenance.get("precision", "f32")) != "f32":
        details.append(precision)
    if provenance.get("decode") == "fast":
        details.append("--decode fast")
    return (
        f"{provenance.get('model', '?')} with weights {provenance.get('weights', '?')} "
        f"({', '.join(details)})"
    )


def _maker(provenance: Mapping[str, str]) -> tuple[str, str]:
    return provenance["fingerprint"], provenance.get("decode", "exact")
