"""Feature tables as Spark DataFrames: `pomona.spark.read_features(spark, path)`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pomona.encoder.drawn_warning import warn_of_drawn
from pomona.engines.spark_tables import open_on_spark
from pomona.errors import TableError
from pomona.schema import SPARK_SCHEMA, provenance_of_column

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["provenance", "read_features"]


def read_features(
    spark: SparkSession, table: str | os.PathLike[str] | DataFrame, *, ok_only: bool = True
) -> DataFrame:
    """Read a feature table as a DataFrame, lazily, after making sure that one encoder made it.

    The column `features` is `array<float>`, for `pyspark.ml.functions.array_to_vector`; what made
    it is in its metadata, see `provenance`.

    Args:
        spark: a session, classic or of Spark Connect.
        table: its path, on any file system that Spark reads; or its rows, of Delta for one.
        ok_only: only rows with a vector; else those of failed images too.

    Raises:
        TableError: it is not a feature table, mixes rows of two encoders, or belongs to another
            system, such as Delta.
    """
    if isinstance(table, (str, os.PathLike)):
        rows, _ = open_on_spark(spark, os.fspath(table))
    else:
        rows = table
        warn_of_drawn(found := provenance(rows))
        if "fingerprint" not in found:
            raise TableError(
                "the DataFrame does not say which encoder made its column features: give one that "
                "keeps the metadata of this column, as Parquet and Delta do"
            )
    names = [field.partition(" ")[0] for field in SPARK_SCHEMA.split(", ")]
    if missing := [name for name in names if name not in rows.columns]:
        raise TableError(
            f"the table has no column {missing[0]!r}, but {', '.join(rows.columns)}: give all "
            "columns of a feature table"
        )
    rows = rows.select(*names)
    return rows.where("status = 'ok'") if ok_only else rows


def provenance(features: DataFrame) -> dict[str, str]:
    """What made the column `features` of a DataFrame; empty where it does not say.

    Raises:
        TableError: there is no such column.
    """
    if "features" not in features.columns:
        raise TableError(f"expected a column features, found {', '.join(features.columns)}")
    return provenance_of_column(features.schema["features"].metadata or {})
