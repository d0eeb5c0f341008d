"""The columns of the worker's input and of a feature table, and the format of provenance.

Provenance is field metadata of the column `features`. Parquet has no field metadata: Arrow and
Spark store it in different footer entries. Pomona writes and reads both, so that either library
shows it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import pyarrow as pa

__all__ = [
    "ENCODER_COLUMN",
    "FEATURE_SCHEMA",
    "INPUT_SCHEMA",
    "QUALITY_COLUMNS",
    "SPARK_FOOTER_KEY",
    "SPARK_SCHEMA",
    "STATUSES",
    "column_metadata",
    "columns_of_footer",
    "encoder_of_row",
    "encoder_value",
    "failure_row",
    "kept_columns",
    "kept_type",
    "provenance_of_column",
    "provenance_of_footer",
    "read_provenance",
    "schema_with_provenance",
    "with_quality",
]

INPUT_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.string()),
        ("size", pa.int64()),
        ("modified", pa.timestamp("us", tz="UTC")),
        ("content", pa.large_binary()),
        ("read_error", pa.string()),
    ]
)
"""The worker's input. `read_error` is the reason why `content` is null; it is optional."""

STATUSES = (
    "ok",
    "empty",
    "unsupported",
    "corrupt",
    "truncated",
    "too_large",
    "unreadable",
    "crashed",
)

FEATURE_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.string()),
        ("features", pa.list_(pa.field("element", pa.float32()))),
        ("status", pa.string()),
        ("error", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("format", pa.string()),
        ("size", pa.int64()),
        ("modified", pa.timestamp("us", tz="UTC")),
        ("content_sha256", pa.string()),
        ("brightness", pa.float32()),
        ("sharpness", pa.float32()),
    ]
)

QUALITY_COLUMNS = ("brightness", "sharpness")
"""Columns that part files of earlier versions lack: they are null there."""

SPARK_SCHEMA = (
    "path string, label string, features array<float>, status string, error string, width int, "
    "height int, format string, size bigint, modified timestamp, content_sha256 string, "
    "brightness float, sharpness float"
)
"""`FEATURE_SCHEMA` as a Spark schema."""

ENCODER_COLUMN = "encoder"
"""Provenance in each row, as JSON. `featurize` adds it: Spark keeps the metadata of one side of a
union or an append, and some formats keep none."""

_PREFIX = "pomona."
SPARK_FOOTER_KEY = "org.apache.spark.sql.parquet.row.metadata"
"""The key of Spark's schema, with the metadata of its columns, in a Parquet footer."""

_SPARK_TYPES: dict[pa.DataType, object] = {
    pa.string(): "string",
    pa.bool_(): "boolean",
    pa.int8(): "byte",
    pa.int16(): "short",
    pa.int32(): "integer",
    pa.int64(): "long",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.date32(): "date",
    pa.timestamp("us", "UTC"): "timestamp",
    pa.timestamp("us"): "timestamp_ntz",
}

_WIDER = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.float16(): pa.float32(),
    pa.date64(): pa.date32(),
    **dict.fromkeys([pa.large_string(), pa.string_view()], pa.string()),
}
"""Types that Spark does not have, with one that has all of their values."""


def column_metadata(provenance: Mapping[str, str]) -> dict[str, str]:
    """Return provenance as the metadata of the column `features`, for Arrow and for Spark."""
    return {_PREFIX + key: value for key, value in provenance.items()}


def encoder_value(provenance: Mapping[str, str]) -> str:
    """Return provenance as a value of the column `encoder`."""
    return json.dumps(dict(provenance), sort_keys=True, ensure_ascii=False)


def encoder_of_row(value: object) -> dict[str, str]:
    """Return the provenance in a value of the column `encoder`; empty if there is none."""
    try:
        found = json.loads(value) if isinstance(value, str) else {}
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict) or "fingerprint" not in found:
        return {}
    return {str(key): str(item) for key, item in found.items()}


def kept_type(kind: pa.DataType) -> pa.DataType | None:
    """Return the type of a kept column in the table; None if the table cannot have it."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = kept_type(kind.value_type)
        return None if inner is None else pa.list_(pa.field("element", inner))
    kind = _WIDER.get(kind, kind)
    return kind if kind in _SPARK_TYPES else None


def kept_columns(schema: pa.Schema) -> pa.Schema:
    """Return the columns that a table has beside those of every table."""
    own = {*FEATURE_SCHEMA.names, ENCODER_COLUMN}
    return pa.schema([field for field in schema if field.name not in own])


def with_quality(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Return rows with `QUALITY_COLUMNS`, null if they come from a version without them."""
    for name in QUALITY_COLUMNS:
        if name not in rows.schema.names:
            field = FEATURE_SCHEMA.field(name)
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
    return rows


def _spark_type(kind: pa.DataType) -> object:
    if pa.types.is_list(kind):
        inner = _spark_type(kind.value_type)
        return {"type": "array", "elementType": inner, "containsNull": True}
    return _SPARK_TYPES[kind]


def schema_with_provenance(
    provenance: Mapping[str, str], kept: Iterable[pa.Field] = ()
) -> pa.Schema:
    """Return the table's schema with provenance on `features`, for Arrow's and Spark's entries.

    Args:
        provenance: of the rows.
        kept: columns after those of every table.
    """
    metadata = column_metadata(provenance)
    index = FEATURE_SCHEMA.get_field_index("features")
    schema = FEATURE_SCHEMA.set(index, FEATURE_SCHEMA.field(index).with_metadata(metadata))
    schema = pa.schema([*schema, *kept])
    fields = [
        {
            "name": field.name,
            "type": _spark_type(field.type),
            "nullable": True,
            "metadata": metadata if field.name == "features" else {},
        }
        for field in schema
    ]
    struct = json.dumps({"type": "struct", "fields": fields})
    return schema.with_metadata({SPARK_FOOTER_KEY: struct})


def failure_row(  # noqa: PLR0913 - the columns of a row
    *,
    path: str,
    label: str | None,
    size: int | None,
    modified_ms: int | None,
    status: str,
    error: str,
) -> pa.RecordBatch:
    """Return a row for an image without a result from a worker."""
    row = {"path": path, "label": label, "size": size, "status": status, "error": error}
    if modified_ms is not None:
        row["modified"] = modified_ms * 1000
    return pa.RecordBatch.from_pylist([row], FEATURE_SCHEMA)


def read_provenance(schema: pa.Schema) -> dict[str, str]:
    """Return the provenance in a schema that Arrow or Spark wrote; empty if there is none."""
    if "features" not in schema.names:
        return {}
    metadata = {
        k.decode(): v.decode() for k, v in (schema.field("features").metadata or {}).items()
    }
    if f"{_PREFIX}fingerprint" not in metadata:
        struct = (schema.metadata or {}).get(SPARK_FOOTER_KEY.encode())
        return provenance_of_footer(struct.decode() if struct else None)
    return provenance_of_column(metadata)


def provenance_of_footer(struct: str | None) -> dict[str, str]:
    """Return the provenance in the footer entry `SPARK_FOOTER_KEY`; empty if there is none.

    Raises:
        ValueError: the entry is not a Spark schema.
    """
    try:
        fields = json.loads(struct)["fields"] if struct else []
        metadata = (field["metadata"] for field in fields if field["name"] == "features")
        return provenance_of_column(next(metadata, {}))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"its footer's {SPARK_FOOTER_KEY} is not a Spark schema") from error


def columns_of_footer(struct: str | None) -> list[str]:
    """Return the columns in the entry `SPARK_FOOTER_KEY`, after `provenance_of_footer`'s check."""
    return [field["name"] for field in json.loads(struct)["fields"]] if struct else []


def provenance_of_column(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the provenance in the metadata of Spark's column `features`."""
    return {
        key.removeprefix(_PREFIX): str(value)
        for key, value in metadata.items()
        if key.startswith(_PREFIX)
    }
