"""The feature table: schema, provenance, write, read, what is already done.

A table is a directory of Parquet part files with one schema, `pomona.schema.FEATURE_SCHEMA`. Rows
join it by the renaming of a whole file, so whoever reads it sees a part file whole or not at all.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pomona.errors import TableError
from pomona.location import is_remote, local_path
from pomona.schema import FEATURE_SCHEMA, read_provenance

__all__ = ["FeatureTable", "PartWriter", "check_same_maker", "part_name"]

_STAGING = "_staging-"
_ROW_GROUP_ROWS = 2048  # of 1280 float32: 10 MB held in memory by each writer


class PartWriter:
    """Writes one part file, row group by row group; not to be seen before its parent renames it."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.rows = 0
        self._schema = schema
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        # Dictionaries suit the words; vectors have none worth finding (measured: no smaller).
        words = ["label", "status", "error", "format"]
        self._parquet = pq.ParquetWriter(
            path, schema, compression="snappy", use_dictionary=words, store_schema=True
        )

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows of the table's schema."""
        self.rows += batch.num_rows
        self._waiting.append(batch)
        self._waiting_rows += batch.num_rows
        if self._waiting_rows >= _ROW_GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        """Write what waits and the footer: from here on the file is whole."""
        self._flush()
        self._parquet.close()

    def _flush(self) -> None:
        if self._waiting:
            table = pa.Table.from_batches(self._waiting).cast(self._schema)
            self._parquet.write_table(table, row_group_size=self._waiting_rows)
        self._waiting, self._waiting_rows = [], 0


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
            TableError: it is a file, holds something else, or may not be written.
        """
        try:
            self._check_folder()
        except OSError as error:
            raise TableError(f"cannot use {self.folder}: {error.strerror or error}") from error

    def _check_folder(self) -> None:
        if self.folder.is_dir():
            # Hidden names are left in peace: desktops and notebooks leave theirs everywhere.
            names = [p for p in self.folder.iterdir() if not p.name.startswith(".")]
            strange = [p.name for p in names if not _belongs(p)]
            if strange:
                raise TableError(
                    f"{self.folder} exists and is not a feature table (it holds {strange[0]!r}): "
                    "give another TABLE"
                )
            if self.exists():
                self.provenance()
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
            found = _read_provenance(part)
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

    def paths(self) -> set[str]:
        """The paths that have a row. Vectors are not read."""
        done: set[str] = set()
        for part in self.parts():
            done.update(pq.read_table(part, columns=["path"])["path"].to_pylist())
        return done

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows, streamed, in the table's schema whichever engine wrote them."""
        names = columns or FEATURE_SCHEMA.names
        schema = pa.schema([FEATURE_SCHEMA.field(name) for name in names])
        for part in self.parts():
            with pq.ParquetFile(part) as file:
                for batch in file.iter_batches(columns=names, batch_size=_ROW_GROUP_ROWS):
                    table = pa.Table.from_batches([batch]).select(names).cast(schema)
                    yield from table.to_batches()

    def _move(self, source: Path, target: Path) -> None:
        """Move a table's files, and only those, from folder to folder."""
        target.mkdir(exist_ok=True)
        for path in list(source.iterdir()):
            if path.is_file() and _belongs(path):
                path.replace(target / path.name)

    @contextmanager
    def writing(self, provenance: Mapping[str, str], *, overwrite: bool) -> Iterator[Path]:
        """Hold the table for one writer; gives a staging folder, gone afterwards.

        The lock is the kernel's, on the folder itself: it ends with the process that holds it,
        whatever ends that, and leaves no file behind. A folder that this run made and wrote
        nothing into is removed again.

        Args:
            provenance: of the encoder whose rows are to join.
            overwrite: drop the rows that the table has; they come back if none take their place.

        Raises:
            TableError: the folder is no table, cannot be written, has rows of another encoder, or
                another run is writing it.
        """
        self.check()
        made = not self.folder.exists()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.folder, os.O_RDONLY)
        except OSError as error:
            raise TableError(f"cannot make {self.folder}: {error.strerror or error}") from error
        try:
            _lock(descriptor, self.folder)
            if self.exists() and not overwrite:
                check_same_maker(self.folder, self.provenance(), provenance)
            _remove_stale_staging(self.folder)
            staging = self.folder / f"{_STAGING}{uuid.uuid4().hex[:12]}"
            staging.mkdir()
            replaced = staging / "replaced"
            try:
                if overwrite:
                    self._move(self.folder, replaced)
                yield staging
            finally:
                if overwrite and not self.exists():  # nothing has come in its place
                    self._move(replaced, self.folder)
                shutil.rmtree(staging, ignore_errors=True)
        finally:
            if made and self.folder.is_dir() and not any(self.folder.iterdir()):
                self.folder.rmdir()
            os.close(descriptor)

    def commit(self, staged: Path) -> None:
        """Rename a whole part file into the table: from here on its rows count."""
        staged.replace(self.folder / staged.name)


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


def part_name() -> str:
    """A name for a part file that no other process gives; names sort by time."""
    return f"part-{time.time_ns() // 1_000_000:013d}-{uuid.uuid4().hex[:12]}.parquet"


def _read_provenance(part: Path) -> dict[str, str]:
    try:
        found = read_provenance(pq.read_schema(part))
    except (OSError, pa.ArrowInvalid, json.JSONDecodeError) as error:
        raise TableError(f"{part} is not a readable Parquet file: {error}") from error
    if "fingerprint" not in found:
        raise TableError(
            f"{part.parent} exists and is not a feature table: {part.name} does not say which "
            "encoder made it"
        )
    return found


def _belongs(path: Path) -> bool:
    """Whether a file is one that a feature table's folder may hold."""
    name = path.name
    if path.is_dir():
        return name.startswith((_STAGING, "_temporary"))
    return (
        (name.endswith(".parquet") and not name.startswith("_"))
        or name == "_SUCCESS"
        or (name.startswith(".") and name.endswith(".crc"))
    )


def _named(provenance: Mapping[str, str]) -> str:
    return (
        f"{provenance.get('model', '?')} with weights {provenance.get('weights', '?')} "
        f"({provenance['fingerprint'][:12]}"
        + (", --decode fast)" if provenance.get("decode") == "fast" else ")")
    )


def _maker(provenance: Mapping[str, str]) -> tuple[str, str]:
    return provenance["fingerprint"], provenance.get("decode", "exact")


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise TableError(
            f"another run is writing {folder}: wait until it has ended, or give another TABLE"
        ) from error


def _remove_stale_staging(folder: Path) -> None:
    for name in (f"{_STAGING}*", "_temporary"):  # ours, and Spark's
        for left in folder.glob(name):
            shutil.rmtree(left, ignore_errors=True)
