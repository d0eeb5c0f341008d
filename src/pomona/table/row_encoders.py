"""The encoders that made the rows of a part file: by its column `encoder`, else by its footer.

Spark writes the metadata of one side for all rows of a union or an append, so a footer of Spark
may describe only some of the rows. `featurize` therefore writes the provenance into each row too.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from pomona.errors import TableError
from pomona.schema import ENCODER_COLUMN, encoder_of_row, kept_columns, read_provenance
from pomona.table.part_file import unreadable
from pomona.table.parts import Part

__all__ = ["check_only_known_columns", "part_provenance", "row_makers"]

_ROWS = 65536  # at once: each is an index of one of a few strings


def part_provenance(part: Part) -> dict[str, str]:
    """Return the provenance in the footer of a part file; empty if there is none.

    Raises:
        TableError: the file is damaged.
    """
    try:
        return read_provenance(_schema(part))
    except (OSError, pa.ArrowInvalid, ValueError) as error:
        raise unreadable(part, error) from error


def row_makers(part: Part) -> list[dict[str, str]]:
    """Return the provenances of the rows of a part file; one empty provenance if none is known.

    Raises:
        TableError: the file is damaged.
    """
    values: set[object] = set()
    try:
        schema = _schema(part)
        footer = read_provenance(schema)
        # A column of the same name but another type belongs to the caller.
        if ENCODER_COLUMN in schema.names and schema.field(ENCODER_COLUMN).type == pa.string():
            with part.parquet(read_dictionary=[ENCODER_COLUMN]) as file:
                for batch in file.iter_batches(columns=[ENCODER_COLUMN], batch_size=_ROWS):
                    values.update(batch.column(0).unique().to_pylist())
    except (OSError, pa.ArrowException, ValueError) as error:
        raise unreadable(part, error) from error
    # Rows without a value are from an earlier version, which wrote only the footer.
    makers = [encoder_of_row(value) or footer for value in sorted(values, key=str)]
    return makers or [footer]


def check_only_known_columns(
    part: Part, provenance: Mapping[str, str], kept: pa.Schema | None = None
) -> None:
    """Check that this version can copy or merge a part file without loss.

    Args:
        part: a part file.
        provenance: the provenance of its rows.
        kept: additional columns that the run writes.

    Raises:
        TableError: it has other additional columns, or its footer lacks the provenance of its rows.
    """
    try:
        found = kept_columns(_schema(part))
    except (OSError, pa.ArrowInvalid) as error:
        raise unreadable(part, error) from error
    wanted = {} if kept is None else dict(zip(kept.names, kept.types, strict=True))
    types = dict(zip(found.names, found.types, strict=True))
    if more := [name for name in types if name not in wanted]:
        raise TableError(
            f"{part} has columns that a run does not write ({', '.join(more)}): give another "
            "TABLE, or name them in `keep` if a run with `keep` wrote them"
        )
    for name, kind in wanted.items():
        if name not in types:
            raise TableError(
                f"{part} has no column {name!r} for `keep`: give another TABLE, or overwrite this "
                "one with `overwrite`"
            )
        if types[name] != kind:
            raise TableError(
                f"{part} has the column {name!r} of type {types[name]}, but `keep` finds {kind}: "
                "give another TABLE, or overwrite this one with `overwrite`"
            )
    if part_provenance(part).get("fingerprint") != provenance["fingerprint"]:
        raise TableError(
            f"{part} records the encoder in its rows, but not in its footer: give another TABLE"
        )


def _schema(part: Part) -> pa.Schema:
    with part.parquet() as file:
        return file.schema_arrow
