"""The files of a Delta table that count: its log names them, and the rows of them that remain."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyarrow as pa

from pomona.errors import SourceError
from pomona.extras import check_extra
from pomona.io.location import is_remote, local_path
from pomona.messages import one_line
from pomona.source.table_file import TableFile

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["delta_files"]

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


def delta_files(folder: str) -> tuple[TableFile, ...]:
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

    # The form of a URI: deltalake takes `[` or `#` in a path for parts of one.
    place = Path(os.path.abspath(folder))  # noqa: PTH100
    try:
        table = DeltaTable(place.as_uri())
        _check_features(folder, table)
        schema = pa.schema(table.schema().to_arrow())
        actions = pa.table(table.get_add_actions())
        deleted = _rows_there(table)
    except (DeltaError, OSError, ValueError, pa.ArrowException) as error:
        reason = one_line(str(error).partition("\n")[0])
        raise SourceError(f"cannot read {folder} as a Delta table: {reason}") from error
    paths = [_place_of(folder, place, unquote(path)) for path in actions["path"].to_pylist()]
    if unknown := deleted.keys() - set(paths):
        raise SourceError(
            f"cannot read {folder} as a Delta table: it has deleted rows in {min(unknown)}, which "
            "its log does not name: give another name to the folder"
        )
    nulls = {column.name: pa.scalar(None, column.type) for column in schema}
    files = (
        TableFile(path, nulls | values, deleted.get(path))
        for path, values in zip(paths, _partitions(actions), strict=True)
    )
    return tuple(sorted(files, key=lambda file: file.path))


def _check_features(folder: str, table: DeltaTable) -> None:
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


def _place_of(folder: str, place: Path, path: str) -> str:
    """Return the absolute path of a file in the log: a clone names files of another table."""
    if is_remote(path):
        raise SourceError(
            f"{folder} is a Delta table with the file {path}, which is not on this machine: copy "
            "the whole table here"
        )
    return os.path.join(place, local_path(path))  # noqa: PTH118
