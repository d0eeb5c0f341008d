"""Workers write part files themselves: no vector passes through a JVM.

A task yields the name of its file. The driver adds only the files to the table whose names it
receives. So an attempt that Spark gives up, or runs a second time, adds no rows.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from pomona.errors import TableError
from pomona.schema import kept_columns, schema_with_provenance
from pomona.table.part_file import PartWriter, part_name

__all__ = ["PART_SCHEMA", "write_part"]

PART_SCHEMA = pa.schema([("part", pa.string())])
"""The output of a task that writes a part file."""


def write_part(
    rows: Iterable[tuple[pa.RecordBatch, int]], folder: Path, provenance: Mapping[str, str]
) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Write rows as one part file, in a worker; without rows there is none.

    Args:
        rows: batches of rows, each with the number of models loaded for it.
        folder: an existing folder, at the same path on the driver.
        provenance: of the rows.

    Yields:
        The name of the complete file as `PART_SCHEMA`, and the number of models loaded.

    Raises:
        TableError: the file cannot be written.
    """
    part: PartWriter | None = None
    loaded = 0
    for batch, loads in rows:
        loaded += loads
        if batch.num_rows:
            with _errors_of(folder):
                if part is None:
                    schema = schema_with_provenance(provenance, kept_columns(batch.schema))
                    part = PartWriter(folder / part_name(), schema)
                part.write(batch)
    if part is not None:
        with _errors_of(folder):
            part.close()
        yield pa.RecordBatch.from_pylist([{"part": part.path.name}], PART_SCHEMA), loaded


@contextmanager
def _errors_of(folder: Path) -> Iterator[None]:
    """Convert an error of the file system to one line."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        may_be_elsewhere = isinstance(error, FileNotFoundError | PermissionError)
        raise TableError(
            f"a worker on {socket.gethostname()} cannot write in {folder} ({reason})"
            + (": put TABLE where Spark's workers can write it" if may_be_elsewhere else "")
        ) from error
