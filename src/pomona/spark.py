"""Feature tables as Spark DataFrames: `pomona.spark.read_features(spark, path)`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import unquote

from pomona.errors import TableError
from pomona.location import is_remote, spark_path
from pomona.schema import SPARK_SCHEMA, provenance_of_column
from pomona.table import FeatureTable, one_provenance

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["provenance", "read_features"]


def read_features(
    spark: SparkSession, path: str | os.PathLike[str], *, ok_only: bool = True
) -> DataFrame:
    """Read a feature table as a DataFrame, lazily, after making sure that one encoder made it.

    The column `features` is `array<float>`, for `pyspark.ml.functions.array_to_vector`; what made
    it is in its metadata, see `provenance`.

    Args:
        spark: a session, classic or of Spark Connect.
        path: the table, on any file system that Spark reads.
        ok_only: only rows with a vector; else those of failed images too.

    Raises:
        TableError: it is not a feature table, or mixes rows of two encoders.
    """
    given = os.fspath(path)
    if is_remote(given):
        _check_parts(spark, given)
    else:
        FeatureTable.at(given).provenance()
    rows = spark.read.parquet(spark_path(given))
    names = [field.partition(" ")[0] for field in SPARK_SCHEMA.split(", ")]
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


def _check_parts(spark: SparkSession, table: str) -> None:
    """Look at every part file's footer: Spark itself takes the first one's for all."""
    parts = sorted(spark.read.parquet(table).inputFiles())
    found = ((part, provenance(spark.read.parquet(unquote(part)))) for part in parts)
    if one_provenance(table, found) is None:
        raise TableError(f"{table} is not a feature table: it has no .parquet files")
