"""Columns beside the images that a run copies into the feature table: their types and values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pomona.errors import SourceError
from pomona.schema import ENCODER_COLUMN, FEATURE_SCHEMA, kept_type

if TYPE_CHECKING:
    from pomona.source.image_file import ImageFile

__all__ = [
    "NOTHING",
    "check_kept_names",
    "has_no_columns",
    "kept_columns",
    "kept_field",
    "kept_values",
    "with_kept",
]

NOTHING = pa.schema([])
"""The columns of a run without `keep`."""


def has_no_columns(names: Sequence[str]) -> SourceError:
    """Return the error for a source without columns beside the images."""
    return SourceError(
        f"`keep` {','.join(names)} is for images in Parquet files (give `image_column`) and for "
        "lists in CSV or Parquet: join the feature table with yours by its column path"
    )


def check_kept_names(names: Sequence[str]) -> None:
    """Check the names of columns to keep, before the source is read.

    Raises:
        SourceError: one is a column of every feature table, or occurs twice. Spark does not
            distinguish letter case, so this does not either.
    """
    own = {name.lower(): name for name in (*FEATURE_SCHEMA.names, ENCODER_COLUMN)}
    seen: set[str] = set()
    for name in names:
        if used := own.get(name.lower()):
            advice = f": use `label` column:{name}" if used == "label" else ""
            raise SourceError(
                f"`keep` {name}: every feature table has a column {used!r}"
                f"{advice or ': rename it in the source, or leave it out'}"
            )
        if not name or name.lower() in seen:
            raise SourceError(f"`keep` names the column {name!r} twice: give each name once")
        seen.add(name.lower())


def kept_field(path: str, schema: pa.Schema, name: str) -> pa.Field:
    """Return a column to keep as the feature table has it.

    Args:
        path: the file.
        schema: its schema.
        name: the column.

    Raises:
        SourceError: there is no such column, or it has a type that the table cannot have.
    """
    if name not in schema.names:
        raise SourceError(
            f"{path} has no column {name!r} for `keep`: it has {', '.join(schema.names)[:500]}"
        )
    kind = schema.field(name).type
    found = kept_type(kind)
    if found is None:
        raise SourceError(
            f"{path} has the column {name!r} of type {kind}: `keep` takes text, numbers, booleans, "
            "dates, timestamps and lists of these; leave it out"
        )
    return pa.field(name, found)


def kept_columns(batch: pa.RecordBatch, kept: pa.Schema) -> list[list[Any]]:
    """Return the values of the columns to keep, column by column."""
    return [_cast(batch.column(field.name), field.type).to_pylist() for field in kept]


def kept_values(batch: pa.RecordBatch, kept: pa.Schema) -> Iterable[tuple[Any, ...]]:
    """Return the values of the columns to keep, row by row."""
    return zip(*kept_columns(batch, kept), strict=True)


def with_kept(rows: pa.RecordBatch, files: Sequence[ImageFile], kept: pa.Schema) -> pa.RecordBatch:
    """Return N rows of the feature table with the kept values of their N files."""
    if not kept.names:
        return rows
    columns = list(rows.columns)
    for at, field in enumerate(kept):
        columns.append(pa.array([file.kept[at] for file in files], field.type))
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema([*rows.schema, *kept]))


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    # Nanoseconds are cut off: Python's and Spark's times have microseconds.
    return column if column.type == kind else column.cast(kind, safe=False)
