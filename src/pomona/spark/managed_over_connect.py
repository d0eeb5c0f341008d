"""Which system manages a folder, found over Spark Connect, which gives no access to file systems.

Spark checks that a path exists when it analyses a query that reads it. No task runs, and no file is
read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona.source.walk import folders_above
from pomona.spark.errors import names_a_missing_path, quiet_analysis
from pomona.table.managed_folders import KINDS, Managed

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["managed_over_connect"]


def managed_over_connect(spark: SparkSession, table: str) -> Managed | None:
    """The system that a folder of Parquet files belongs to; None for plain folders.

    Args:
        spark: a session of Spark Connect.
        table: the folder's URI, which the server reaches.

    Raises:
        PySparkException: the server cannot check the folder. Folders above it that it cannot check
            are skipped, because credentials of an object store may be for a part of it only.
    """
    from pyspark.errors import PySparkException

    table = table.rstrip("/")
    for folder in (table, *folders_above(table)):
        if not folder or folder.endswith(("/", ":")):  # above the bucket or the host
            break
        for kind in KINDS:
            try:
                if _exists(spark, f"{folder}/{kind.marker}"):
                    return Managed(kind, folder)
            except PySparkException:
                if folder == table:
                    raise
                break
    return None


def _exists(spark: SparkSession, pattern: str) -> bool:
    from pyspark.errors import AnalysisException

    try:
        with quiet_analysis():
            # The columns are fixed, so that Spark opens no file to infer them.
            _ = spark.read.format("binaryFile").load(pattern).schema
    except AnalysisException as error:
        if names_a_missing_path(error):
            return False
        raise
    return True
