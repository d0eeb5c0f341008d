"""Feature tables as Spark DataFrames, on any file system, after a check."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from pomona.errors import TableError
from pomona.io.folders import LocalFolder
from pomona.io.location import canonical, is_remote, local_path, spark_path, without_password
from pomona.schema import ENCODER_COLUMN, FEATURE_SCHEMA
from pomona.spark.errors import cause_of, spark_errors
from pomona.spark.managed_over_connect import managed_over_connect
from pomona.spark.row_provenance import one_encoder
from pomona.spark.session.session import is_connect
from pomona.spark.storage.hadoop.filesystem import hadoop_folder
from pomona.spark.storage.parquet import quality_too
from pomona.table.feature_table import FeatureTable
from pomona.table.makers import one_provenance
from pomona.table.managed_folders import DELTA, SINK, managed, refuse_to_read
from pomona.table.parts import is_partition

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["open_on_spark", "refuse_delta"]


def open_on_spark(spark: SparkSession, table: str) -> tuple[DataFrame, dict[str, str]]:
    """Open a feature table, lazily.

    Args:
        spark: a session, classic or of Spark Connect.
        table: its path or URI.

    Returns:
        Its rows, with the columns of the feature table and of its partitions; and their provenance.

    Raises:
        TableError: it is not a feature table, mixes rows of two encoders, or belongs to another
            system, such as Delta.
    """
    table = canonical(table)
    if not is_remote(table):
        refuse_delta(table)
        return _rows(spark, table), FeatureTable.at(table).provenance()
    what = f"Spark cannot read {without_password(table)}"
    with _system_errors(what), spark_errors(TableError, what):
        folder = table.rstrip("/")
        if is_connect(spark):
            manager = managed_over_connect(spark, folder)
        else:
            manager = managed(hadoop_folder(spark, folder))
        if manager and not (manager.kind is SINK and manager.is_whole(folder)):
            raise refuse_to_read(manager, folder)
        found = _provenance(spark, table)
        return _rows(spark, table), found


def refuse_delta(table: str) -> None:
    """Refuse a Delta table on this machine: Spark needs jars to read its log.

    Raises:
        TableError: it is one, or a part of one.
    """
    here = LocalFolder(Path(local_path(table)))
    if (manager := managed(here)) and manager.kind is DELTA:
        raise refuse_to_read(manager, here)


@contextmanager
def _system_errors(what: str) -> Iterator[None]:
    """Convert errors of a Hadoop file system to a `TableError`."""
    try:
        yield
    except OSError as error:
        raise TableError(f"{what}: {cause_of(str(error))}") from error


def _rows(spark: SparkSession, table: str) -> DataFrame:
    """Return the rows, with string columns as strings.

    Spark infers the types of partitions: `label=01` would become the number 1. It reads the value
    of a partition only from the path below `basePath`.
    """
    from pyspark.sql.types import StringType, StructField, StructType

    texts = {field.name for field in FEATURE_SCHEMA if str(field.type) == "string"}
    place = table if is_remote(table) else f"file:{Path(local_path(table)).absolute()}"
    base = place.rstrip("/")
    while is_partition(base.rpartition("/")[2]):
        base = base.rpartition("/")[0]
    path, place_of = spark_path(table), {"basePath": base} if base != place.rstrip("/") else {}
    rows = spark.read.options(**place_of).parquet(path)
    fields = [
        StructField(field.name, StringType(), field.nullable, field.metadata)
        if field.name in texts
        else field
        for field in rows.schema
    ]
    schema = quality_too(StructType(fields))
    if schema == rows.schema:
        return rows
    return spark.read.options(**place_of).schema(schema).parquet(path)


def _provenance(spark: SparkSession, table: str) -> dict[str, str]:
    """Return the provenance of all part files: Spark itself reads only one footer."""
    parts = sorted(spark.read.parquet(table).inputFiles())
    found = ((part, _of_part(spark, unquote(part))) for part in parts)
    provenance = one_provenance(table, found)
    if provenance is None:
        raise TableError(f"{table} is not a feature table: it has no .parquet files")
    return provenance


def _of_part(spark: SparkSession, part: str) -> dict[str, str]:
    return one_encoder(spark.read.parquet(part), ENCODER_COLUMN, part)
