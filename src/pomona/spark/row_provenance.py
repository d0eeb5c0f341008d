"""Which encoder made the rows of a DataFrame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona.schema import encoder_of_row, provenance_of_column
from pomona.table.makers import one_provenance

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["one_encoder"]


def one_encoder(rows: DataFrame, column: str, name: str) -> dict[str, str]:
    """Make sure that one encoder made all rows of a DataFrame.

    Args:
        rows: a job reads their column `column`, if they have it.
        column: what `featurize` calls `encoder`.
        name: what to call the DataFrame in errors.

    Returns:
        What made them; empty if nothing says. A row without a value in `column` is one that the
        metadata of `features` describes.

    Raises:
        TableError: two encoders made them.
    """
    metadata: dict[str, str] = {}
    if "features" in rows.columns:
        metadata = provenance_of_column(rows.schema["features"].metadata or {})
    if column not in rows.columns or rows.schema[column].dataType.simpleString() != "string":
        return metadata
    values = sorted((row[0] for row in rows.select(column).distinct().collect()), key=str)
    makers = [encoder_of_row(value) or metadata for value in values]
    return one_provenance(name, (("a row", maker) for maker in makers)) or metadata
