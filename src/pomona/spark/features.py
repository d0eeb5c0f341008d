"""Feature tables as Spark DataFrames: `pomona.spark.read_features(spark, path)`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pomona.errors import TableError
from pomona.schema import (
    ENCODER_COLUMN,
    QUALITY_COLUMNS,
    SPARK_SCHEMA,
    column_metadata,
    encoder_value,
    provenance_of_column,
)
from pomona.spark.row_provenance import one_encoder as check_one_encoder
from pomona.spark.session.session import functions_of
from pomona.spark.table_reader import open_on_spark

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["one_encoder", "provenance", "read_features"]


def read_features(
    spark: SparkSession, table: str | os.PathLike[str] | DataFrame, *, ok_only: bool = True
) -> DataFrame:
    """Read a feature table as a DataFrame after checking that one encoder made all of its rows.

    The column `features` is `array<float>`, for `pyspark.ml.functions.array_to_vector`. Its
    metadata is the provenance, and so is the column `encoder` after the table's columns. Columns
    that `featurize` kept come last.

    Args:
        spark: a session, classic or of Spark Connect.
        table: its path, on any file system that Spark reads; or its rows, such as those of a Delta
            or Iceberg table. The check reads their column `encoder`, so give stored rows, not a
            query that computes vectors.
        ok_only: drop rows without a vector.

    Raises:
        TableError: it is not a feature table, mixes rows of two encoders, or belongs to another
            system, such as Delta.
    """
    if isinstance(table, (str, os.PathLike)):
        rows, found = open_on_spark(spark, os.fspath(table))
    else:
        rows, found = table, one_encoder(table)
    names = [field.partition(" ")[0] for field in SPARK_SCHEMA.split(", ")]
    lacking = [name for name in names if name not in rows.columns]
    if missing := [name for name in lacking if name not in QUALITY_COLUMNS]:
        raise TableError(
            f"the table has no column {missing[0]!r}, found {', '.join(rows.columns)}: give all "
            "columns of a feature table"
        )
    kept = [name for name in rows.columns if name not in {*names, ENCODER_COLUMN}]
    functions = functions_of(rows.sparkSession)
    maker = functions.lit(encoder_value(found)).alias(ENCODER_COLUMN)
    own = [functions.lit(None).cast("float").alias(n) if n in lacking else n for n in names]
    rows = rows.select(*own, maker, *(functions.col(f"`{name}`") for name in kept))
    rows = rows.withMetadata("features", column_metadata(found))
    return rows.where("status = 'ok'") if ok_only else rows


def one_encoder(rows: DataFrame, column: str = ENCODER_COLUMN) -> dict[str, str]:
    """Check that one encoder made all rows. This runs a job, which reads one column.

    Args:
        rows: stored rows of `featurize`, `read_features` or `ImageFeaturizer`.
        column: the column of provenances; `ImageFeaturizer` calls it `features_encoder`.

    Returns:
        The provenance. The metadata of `features` describes rows without a value.

    Raises:
        TableError: two encoders made them, or nothing records the encoder.
    """
    found = check_one_encoder(rows, column, "the DataFrame")
    if "fingerprint" not in found:
        raise TableError(
            "the DataFrame does not say which encoder made its column features: keep the column "
            f"{column}, which featurize adds, or the metadata of features"
        )
    return found


def provenance(features: DataFrame) -> dict[str, str]:
    """Return the provenance in the metadata of the column `features`; empty if there is none.

    Spark keeps the metadata of the first side of a union, so this cannot tell whether rows of two
    encoders are mixed: `one_encoder` can.

    Raises:
        TableError: there is no column `features`.
    """
    if "features" not in features.columns:
        raise TableError(f"expected a column features, found {', '.join(features.columns)}")
    return provenance_of_column(features.schema["features"].metadata or {})
