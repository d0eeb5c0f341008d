"""The encoder that made the rows of a DataFrame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona.schema import encoder_of_row, provenance_of_column
from pomona.table.makers import one_provenance

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["one_encoder"]


def one_encoder(rows: DataFrame, column: str, name: str) -> dict[str, str]:
    """Check that one encoder made all rows of a DataFrame.

    Args:
        rows: the DataFrame. A job reads its column `column` if it exists.
        column: name of the column that `featurize` calls `encoder`.
        name: the name of the DataFrame, for errors.

    Returns:
        The provenance; empty if there is none. The metadata of `features` describes rows without a
        value in `column`.

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
