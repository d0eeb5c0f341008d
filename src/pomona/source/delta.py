"""The files of a Delta table that count: its log names them, and the rows of them that remain."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyarrow as pa

from pomona.errors import SourceError
from pomona.extras import check_extra
from pomona.io.folders import ArrowFolder, LocalFolder
from pomona.io.location import is_remote, local_path
from pomona.io.remote import repeated
from pomona.messages import one_line
from pomona.source.table_file import TableFile

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["delta_files"]

_LOG, _LAST_CHECKPOINT = "_delta_log", "_last_checkpoint"
_AT_ONCE = 16  # files of a log that are fetched together

_READABLE = frozenset(  # reader features: either they change no rows, or `delta_files` obeys them
    {
        "columnMapping",
        "deletionVectors",
        "timestampNtz",
        "typeWidening",
        "typeWidening-preview",
        "v2Checkpoint",
        "vacuumProtocolCheck",
    }
)


def delta_files(folder: LocalFolder | ArrowFolder) -> tuple[TableFile, ...]:
    """Return the files of the newest version of a Delta table, in a fixed order.

    Raises:
        SourceError: the package deltalake is missing, the log cannot be read, or the table has a
            feature with which the files contain other rows or columns than the table.
    """
    check_extra(
        "delta",
        f"{folder} is a Delta table, and reading its log needs deltalake",
        "deltalake",
        error=SourceError,
    )
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    with _log_here(folder) as place:
        try:
            # The form of a URI: deltalake takes `[` or `#` in a path for parts of one.
            table = DeltaTable(place.as_uri())
            _check_features(folder, table)
            schema = pa.schema(table.schema().to_arrow())
            actions = pa.table(table.get_add_actions())
            deleted = _rows_there(table)
        except (DeltaError, OSError, ValueError, pa.ArrowException) as error:
            reason = one_line(str(error).partition("\n")[0])
            raise SourceError(f"cannot read {folder} as a Delta table: {reason}") from error
    named = [unquote(path) for path in actions["path"].to_pylist()]
    here = [os.path.join(place, local_path(path)) for path in named]  # noqa: PTH118
    if unknown := deleted.keys() - set(here):
        raise SourceError(
            f"cannot read {folder} as a Delta table: it has deleted rows in {min(unknown)}, which "
            "its log does not name: give another name to the folder"
        )
    nulls = {column.name: pa.scalar(None, column.type) for column in schema}
    files = []
    for name, path, values in zip(named, here, _partitions(actions), strict=True):
        if is_remote(name) or (name != local_path(name) and isinstance(folder, ArrowFolder)):
            raise SourceError(
                f"{folder} is a Delta table with the file {name} of another one: copy the whole "
                "table to one place"
            )
        there = path if isinstance(folder, LocalFolder) else f"{folder}/{name}"
        files.append(TableFile(there, nulls | values, deleted.get(path)))
    return tuple(sorted(files, key=lambda file: file.path))


def _check_features(folder: object, table: DeltaTable) -> None:
    found = set(table.protocol().reader_features or ()) - _READABLE
    if table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none":
        found.add("columnMapping")
    if found:
        raise SourceError(
            f"{folder} is a Delta table with {', '.join(sorted(found))}, which Pomona does not "
            "read: write the table to another one without it, or on Spark, give it to "
            "pomona.featurize as a DataFrame"
        )


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
        try:
            _copy_log(folder, Path(copy))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SourceError(f"cannot read the log of {folder}: {one_line(error)}") from error
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
