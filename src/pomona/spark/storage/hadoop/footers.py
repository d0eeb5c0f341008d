"""Provenance and columns of part files on a Hadoop file system, from their footers."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pomona.errors import TableError
from pomona.schema import (
    ENCODER_COLUMN,
    FEATURE_SCHEMA,
    SPARK_FOOTER_KEY,
    columns_of_footer,
    provenance_of_footer,
)
from pomona.spark.row_provenance import one_encoder
from pomona.spark.storage.hadoop.arrow import os_errors
from pomona.spark.storage.hadoop.filesystem import hadoop_path
from pomona.table.makers import one_provenance
from pomona.table.part_file import damaged

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from pomona.spark.storage.hadoop.copier import SparkCopier

__all__ = ["Footers"]

_THREADS = 16


class Footers:
    """Reads the footers of the part files of one table, through the driver's JVM."""

    def __init__(self, table: str, copier: SparkCopier, spark: SparkSession) -> None:
        self._table = table
        self._copier = copier
        self._spark = spark

    def provenance(self, parts: Iterable[str]) -> tuple[dict[str, str] | None, list[str]]:
        """Return the provenance that all part files share, and the columns that no run writes.

        The provenance is None if there are no part files.

        Raises:
            TableError: part files have no provenance or different ones, or one is damaged.
        """
        parts = list(parts)
        with ThreadPoolExecutor(_THREADS) as threads:
            footers = list(threads.map(self.read, parts))
        found = one_provenance(
            self._table,
            (
                (part, maker)
                for part, (footer, names) in zip(parts, footers, strict=True)
                for maker in (footer, self._of_rows(part) if ENCODER_COLUMN in names else footer)
            ),
        )
        known = {*FEATURE_SCHEMA.names, ENCODER_COLUMN}
        return found, sorted({name for _, names in footers for name in names if name not in known})

    def read(self, part: str) -> tuple[dict[str, str], list[str]]:
        """Return the provenance and the columns of a part file.

        Raises:
            TableError: the file is damaged.
        """
        parquet: Any = self._spark.sparkContext._jvm.org.apache.parquet.hadoop  # type: ignore[union-attr]
        name = f"{self._table}/{part}"
        settings = self._spark._jsparkSession.sessionState().newHadoopConf()
        try:
            with os_errors():
                path = hadoop_path(self._spark, name)
                file = parquet.util.HadoopInputFile.fromPath(path, settings)
                reader = parquet.ParquetFileReader.open(file)
                entries = reader.getFooter().getFileMetaData().getKeyValueMetaData()
                reader.close()
                struct = entries.get(SPARK_FOOTER_KEY)
            return provenance_of_footer(struct), columns_of_footer(struct)
        except (OSError, ValueError) as error:
            raise TableError(damaged(name, error)) from error

    def _of_rows(self, part: str) -> dict[str, str]:
        return one_encoder(self._copier.read([part]), ENCODER_COLUMN, f"{self._table}/{part}")
