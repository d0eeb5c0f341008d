"""The part files of a feature table: written whole, copied without some rows, merged."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pomona.errors import TableError
from pomona.schema import read_provenance, schema_with_provenance
from pomona.table.row_index import KEY_TYPE, keys_of, path_keys

__all__ = [
    "MERGED_BYTES",
    "ROW_GROUP_ROWS",
    "PartWriter",
    "copy_rows",
    "damaged",
    "groups_to_merge",
    "part_name",
]

ROW_GROUP_ROWS = 2048  # of 1280 float32: 10 MB held in memory by each writer

MERGED_BYTES = 128 * 2**20
"""What merged part files have: between the 64 and 256 MB that readers like."""

_SMALL_BYTES = 48 * 2**20
_SMALL_PARTS = 8  # so many are left alone: a copy of them all would be made for each new one


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
        # PyArrow takes a relative path such as `run:2/part` for a URI.
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
        """Write what waits and the footer: from here on the file is whole."""
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
        parts: what to read, row group by row group.
        target: what to write.
        without: keys of paths whose rows are left out, as `path_keys` makes them.
        labels: new labels by keys of paths, as `keys_of` makes them; other rows keep theirs.

    Returns:
        The number of rows written. Where it is 0, there is no file.
    """
    doomed = np.array(list(without), KEY_TYPE)
    writer: PartWriter | None = None
    for part in parts:
        with pq.ParquetFile(part.absolute()) as file:
            schema = schema_with_provenance(read_provenance(file.schema_arrow))
            for batch in _batches(file, part):
                keep = ~np.isin(path_keys(batch["path"].to_pylist()), doomed)
                kept = batch.select(schema.names).filter(pa.array(keep))
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
    """What to say of a part file that cannot be read."""
    return (
        f"{part} is not a readable Parquet file ({reason}): remove it, and the next run does its "
        "images again"
    )


def _batches(file: pq.ParquetFile, part: Path) -> Iterator[pa.RecordBatch]:
    batches = file.iter_batches(batch_size=ROW_GROUP_ROWS)
    while True:
        try:
            batch = next(batches, None)
        except (OSError, pa.ArrowException) as error:
            raise TableError(damaged(part, error)) from error
        if batch is None:
            return
        if batch.num_rows:
            yield batch


def groups_to_merge(sizes: dict[str, int]) -> list[list[str]]:
    """Choose part files that are better merged: many small ones, in groups of about 128 MB.

    Args:
        sizes: bytes of part files of one provenance, in the order in which to merge them.
    """
    small = [part for part, size in sizes.items() if size < _SMALL_BYTES]
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
