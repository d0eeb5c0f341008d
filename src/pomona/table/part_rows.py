"""The rows of one part file, whichever engine wrote it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from pomona.errors import TableError
from pomona.schema import FEATURE_SCHEMA, QUALITY_COLUMNS
from pomona.table.part_file import unreadable
from pomona.table.parts import Part

__all__ = ["opened_part", "rows_of_part"]


def rows_of_part(part: Part, columns: list[str], at_once: int) -> Iterator[pa.Table]:
    """Yield the rows of a part file in chunks, in the table's schema, for either engine's files."""
    with opened_part(part, columns) as file:
        own, others = FEATURE_SCHEMA, file.schema_arrow  # values of partitions are text
        schema = pa.schema(
            own.field(name)
            if name in own.names
            else (others.field(name) if name in others.names else pa.field(name, pa.string()))
            for name in columns
        )
        stored = [name for name in columns if name in file.schema_arrow.names]
        for batch in file.iter_batches(columns=stored, batch_size=at_once):
            found = {name: batch[name] for name in stored}
            found |= {  # a partition's value; a part file of an earlier version has no quality
                name: pa.repeat(pa.scalar(part.values.get(name), pa.string()), len(batch))
                for name in columns
                if name not in stored
            }
            rows = pa.table([found[name] for name in columns], columns).cast(schema)
            if "path" in columns and rows["path"].null_count:
                raise TableError(
                    f"{part} has a row without a path: write the table again with a path in each "
                    "row, for example coalesce(path, concat('sha256:', content_sha256)) in Spark"
                )
            yield rows


@contextmanager
def opened_part(part: Part, columns: Iterable[str]) -> Iterator[pq.ParquetFile]:
    """Open a part file for reading columns; convert Arrow's errors to `TableError`."""
    try:
        with part.parquet() as file:
            found = [*file.schema_arrow.names, *part.values]
            needed = (name for name in columns if name not in QUALITY_COLUMNS)
            if missing := [name for name in needed if name not in found]:
                raise TableError(
                    f"{part} is not part of a feature table: it has no column {missing[0]!r}, but "
                    f"{', '.join(found)}; give a TABLE that pomona wrote, with all its columns"
                )
            yield file
    except (OSError, pa.ArrowException) as error:
        raise unreadable(part, error) from error
