"""Writing, copying and merging part files of a feature table."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pomona.errors import TableError
from pomona.io.remote import Cause, StorageError
from pomona.schema import kept_columns, read_provenance, schema_with_provenance, with_quality
from pomona.table.row_index import KEY_TYPE, keys_of, path_keys

__all__ = [
    "MERGED_BYTES",
    "ROW_GROUP_ROWS",
    "PartWriter",
    "copy_rows",
    "damaged",
    "groups_to_merge",
    "part_name",
    "small_parts",
    "unreadable",
]

ROW_GROUP_ROWS = 2048  # of 1280 float32: 10 MB held in memory by each writer

MERGED_BYTES = 128 * 2**20
"""The size of merged part files: readers work best with 64 to 256 MB."""

_SMALL_BYTES = 48 * 2**20
_SMALL_PARTS = 8  # up to this many are not merged: otherwise each new one would cause a copy of all


class PartWriter:
    """Writes one part file by row groups; readers see it only when the parent renames it."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.rows = 0
        self._schema = schema
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        # Dictionaries suit strings. They do not make vectors smaller (measured).
        words = ["label", "status", "error", "format"]
        # PyArrow reads a relative path such as `run:2/part` as a URI.
        self._parquet = pq.ParquetWriter(
            path.absolute(),
            schema,
            compression="snappy",
            use_dictionary=words,
            store_schema=True,
        )

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows of the table's schema."""
        self.rows += batch.num_rows
        self._waiting.append(batch)
        self._waiting_rows += batch.num_rows
        if self._waiting_rows >= ROW_GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        """Write the remaining rows and the footer, which completes the file."""
        self._flush()
        self._parquet.close()

    def _flush(self) -> None:
        if self._waiting:
            table = pa.Table.from_batches(self._waiting).cast(self._schema)
            self._parquet.write_table(table, row_group_size=self._waiting_rows)
        self._waiting, self._waiting_rows = [], 0


def part_name() -> str:
    """Return a name for a part file that no other process uses; names sort by time."""
    return f"part-{time.time_ns() // 1_000_000:013d}-{uuid.uuid4().hex[:12]}.parquet"


def copy_rows(
    parts: Iterable[Path],
    target: Path,
    without: Collection[bytes] = (),
    labels: Mapping[bytes, str | None] | None = None,
) -> int:
    """Write the rows of some part files of one provenance into a new one.

    Args:
        parts: the files to read, by row groups.
        target: the file to write.
        without: keys of paths whose rows are omitted, as `path_keys` returns them.
        labels: new labels by keys of paths, as `keys_of` returns them; other rows keep theirs.

    Returns:
        The number of rows written. If it is 0, there is no file.
    """
    doomed = np.array(list(without), KEY_TYPE)
    writer: PartWriter | None = None
    for part in parts:
        with pq.ParquetFile(part.absolute()) as file:
            stored = file.schema_arrow
            schema = schema_with_provenance(read_provenance(stored), kept_columns(stored))
            for batch in _batches(file, part):
                keep = ~np.isin(path_keys(batch["path"].to_pylist()), doomed)
                kept = with_quality(batch).select(schema.names).filter(pa.array(keep))
                if labels:
                    kept = _relabelled(kept, labels)
                if kept.num_rows:
                    writer = writer or PartWriter(target, schema)
                    for rows in pa.Table.from_batches([kept]).cast(schema).to_batches():
                        writer.write(rows)
    if writer is None:
        return 0
    writer.close()
    return writer.rows


def _relabelled(batch: pa.RecordBatch, labels: Mapping[bytes, str | None]) -> pa.RecordBatch:
    keys = keys_of(batch["path"].to_pylist())
    found = [labels.get(k, old) for k, old in zip(keys, batch["label"].to_pylist(), strict=True)]
    at = batch.schema.get_field_index("label")
    return batch.set_column(
        at, batch.schema.field(at), pa.array(found, batch.schema.field(at).type)
    )


def damaged(part: object, reason: object) -> str:
    """Return the message about a part file that cannot be read."""
    return (
        f"{part} is not a readable Parquet file ({reason}): delete it, and the next run computes "
        "its images again"
    )


def unreadable(part: object, error: Exception) -> TableError:
    """Return the error about a part file that could not be read: is it damaged, gone, or far?"""
    if isinstance(error, FileNotFoundError) or (
        isinstance(error, StorageError) and error.cause is Cause.MISSING
    ):
        return TableError(f"{part} disappeared: is a run writing the table? Try again")
    if isinstance(error, StorageError):
        return TableError(f"cannot read {part}: {error}")
    return TableError(damaged(part, error))


def _batches(file: pq.ParquetFile, part: Path) -> Iterator[pa.RecordBatch]:
    batches = file.iter_batches(batch_size=ROW_GROUP_ROWS)
    while True:
        try:
            batch = next(batches, None)
        except (OSError, pa.ArrowException) as error:
            raise unreadable(part, error) from error
        if batch is None:
            return
        if batch.num_rows:
            yield batch


def small_parts(sizes: dict[str, int]) -> list[str]:
    """Return the part files that a merge would read, by their sizes in bytes."""
    return [part for part, size in sizes.items() if size < _SMALL_BYTES]


def groups_to_merge(sizes: dict[str, int]) -> list[list[str]]:
    """Choose part files to merge: many small ones, in groups of about 128 MB.

    Args:
        sizes: bytes of part files of one provenance, in the order in which to merge them.
    """
    small = small_parts(sizes)
    if len(small) <= _SMALL_PARTS:
        return []
    groups: list[list[str]] = []
    held = MERGED_BYTES
    for part in small:
        if held + sizes[part] > MERGED_BYTES:
            groups.append([])
            held = 0
        groups[-1].append(part)
        held += sizes[part]
    return [group for group in groups if len(group) > 1]
