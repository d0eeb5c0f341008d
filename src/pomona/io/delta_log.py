"""The log of a Delta table: the files that count, and the rows of them that remain."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyarrow as pa

from pomona.errors import PomonaError, UsageError
from pomona.extras import check_extra
from pomona.io.folders import ArrowFolder, LocalFolder
from pomona.io.location import is_remote, local_path
from pomona.io.remote import repeated
from pomona.messages import one_line

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["DeltaFile", "delta_errors", "open_delta", "read_delta_log"]

_LOG, _LAST_CHECKPOINT = "_delta_log", "_last_checkpoint"
_AT_ONCE = 16  # files of a log that are fetched together

_READABLE = frozenset(  # reader features that change no rows, or that `read_delta_log` obeys
    {
        "columnMapping",
        "deletionVectors",
        "timestampNtz",
        "typeWidening",
        "typeWidening-preview",
        "v2Checkpoint",
        "variantType",  # no column of this type is read
        "variantType-preview",
        "vacuumProtocolCheck",
    }
)


@dataclass(frozen=True, slots=True)
class DeltaFile:
    """A Parquet file of the newest version of a Delta table.

    Attributes:
        name: its path below the table's folder; or absolute, if the table is a clone of another.
        place: its absolute path on this machine, or its URI.
        size: bytes.
        modified: in seconds since 1970.
        values: the values of the partition columns, which the file lacks.
        is_there: for each row, whether it counts; rows beyond the end do. None if all do.
    """

    name: str
    place: str
    size: int
    modified: float
    values: dict[str, pa.Scalar]
    is_there: pa.BooleanArray | None


def read_delta_log(
    folder: LocalFolder | ArrowFolder, error: type[UsageError]
) -> tuple[pa.Schema, list[DeltaFile]]:
    """Return the columns of a Delta table, and the files that count in a fixed order.

    Args:
        folder: its folder, on this machine or in an object store.
        error: the class of the exceptions.

    Raises:
        UsageError: the package deltalake is missing, the log cannot be read, or the table has a
            feature with which the files contain other rows or columns than the table.
    """
    what = f"{folder} is a Delta table, and reading its log needs deltalake"
    check_extra("delta", what, "deltalake", error=error)
    with delta_errors(str(folder), error), _log_here(folder) as here:
        table = open_delta(here)
        if found := _unknown_features(table):
            raise error(
                f"{folder} is a Delta table with {', '.join(sorted(found))}, which Pomona does "
                "not read: write the table to another one without it, or read it on Spark, and "
                "give Pomona the DataFrame"
            )
        schema = pa.schema(table.schema().to_arrow())
        actions = pa.table(table.get_add_actions())
        deleted = _rows_there(table)
    files = []
    about = actions.select(["path", "size_bytes", "modification_time"]).to_pylist()
    for action, values in zip(about, _partitions(actions), strict=True):
        name = unquote(action["path"])
        place = os.path.join(here, local_path(name))  # noqa: PTH118
        is_there = deleted.pop(place, None)
        if is_remote(name) or (name != local_path(name) and isinstance(folder, ArrowFolder)):
            raise error(
                f"{folder} is a Delta table with the file {name} of another one: copy the whole "
                "table to one place"
            )
        if isinstance(folder, ArrowFolder):
            place = f"{folder}/{name}"
        size, modified = action["size_bytes"], action["modification_time"] / 1000
        files.append(DeltaFile(local_path(name), place, size, modified, values, is_there))
    if deleted:
        raise error(
            f"cannot read {folder} as a Delta table: it has deleted rows in {min(deleted)}, which "
            "its log does not name: give another name to the folder"
        )
    return schema, sorted(files, key=lambda file: file.name)


def open_delta(folder: Path) -> DeltaTable:
    """Open a Delta table on this machine."""
    from deltalake import DeltaTable

    # The form of a URI: deltalake takes `[` or `#` in a path for parts of one.
    return DeltaTable(folder.absolute().as_uri())


@contextmanager
def delta_errors(folder: str, error: type[PomonaError]) -> Iterator[None]:
    """Convert the errors of a Delta table to those of Pomona."""
    from deltalake.exceptions import DeltaError

    try:
        yield
    except (DeltaError, OSError, ValueError, KeyError, TypeError, pa.ArrowException) as failure:
        reason = one_line(str(failure).partition("\n")[0])
        raise error(f"cannot read {folder} as a Delta table: {reason}") from failure


def _unknown_features(table: DeltaTable) -> set[str]:
    found = set(table.protocol().reader_features or ()) - _READABLE
    if table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none":
        found.add("columnMapping")
    return found


def _rows_there(table: DeltaTable) -> dict[str, pa.BooleanArray]:
    """Return which rows of a file count, by its path; only for files with deleted rows."""
    vectors = pa.table(table.deletion_vectors())
    paths = (local_path(unquote(uri)) for uri in vectors["filepath"].to_pylist())
    return {path: row.values for path, row in zip(paths, vectors["selection_vector"], strict=True)}


def _partitions(actions: pa.Table) -> list[dict[str, pa.Scalar]]:
    """Return the values of the partition columns of each file."""
    if "partition" not in actions.column_names:
        return [{}] * len(actions)
    return [dict(row) for row in actions["partition"]]


@contextmanager
def _log_here(folder: LocalFolder | ArrowFolder) -> Iterator[Path]:
    """Give a folder of this machine with the log of a table.

    A log in an object store is copied: so Arrow's credentials are enough, and deltalake needs none.
    """
    if isinstance(folder, LocalFolder):
        yield Path(os.path.abspath(folder.path))  # noqa: PTH100
        return
    with tempfile.TemporaryDirectory(prefix="pomona-") as copy:
        _copy_log(folder, Path(copy))
        yield Path(copy).absolute()


def _copy_log(folder: ArrowFolder, copy: Path) -> None:
    """Copy the log since its last checkpoint, and the vectors of deleted rows."""
    logs = folder.child(_LOG)
    names = _names(logs)
    start = 0
    if _LAST_CHECKPOINT in names:
        start = json.loads(_read(logs, _LAST_CHECKPOINT))["version"]
    wanted = [
        (logs, name) for name in names if not name[:20].isdecimal() or int(name[:20]) >= start
    ]
    sidecars = logs.child("_sidecars")
    wanted += [(sidecars, name) for name in _names(sidecars)]
    wanted += [(folder, name) for name in _names(folder) if name.startswith("deletion_vector_")]

    def fetch(file: tuple[ArrowFolder, str]) -> None:
        place, name = file
        target = copy / str(place)[len(str(folder)) :].lstrip("/") / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(_read(place, name))

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        list(threads.map(fetch, wanted))


def _names(folder: ArrowFolder) -> list[str]:
    found = repeated(lambda: list(folder.entries()), f"list {folder}")
    return [entry.name for entry in found if not entry.is_folder]


def _read(folder: ArrowFolder, name: str) -> bytes:
    return repeated(lambda: folder.read(name), f"read {folder}/{name}")
