"""Parquet files that Spark writes, and a check of the written rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from pomona.errors import RunError
from pomona.schema import QUALITY_COLUMNS
from pomona.table.failed_files import NAMED_FAILURES, FailedFile

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType

__all__ = ["WRITTEN_COLUMNS", "Written", "quality_too", "write_parquet", "written_once"]

WRITTEN_COLUMNS = ["path", "status", "error"]
"""The columns of written rows that the driver reads back."""


@dataclass(frozen=True, slots=True)
class Written:
    """Rows of one commit.

    Attributes:
        statuses: statuses of the rows, by path.
        failed_files: the first few rows without a vector.
    """

    statuses: dict[str, str]
    failed_files: list[FailedFile]


def written_once(rows: list[dict[str, str]]) -> Written:
    """Check the rows that Spark wrote, from their `WRITTEN_COLUMNS`.

    Raises:
        RunError: Spark wrote an image twice.
    """
    written = {row["path"]: row["status"] for row in rows}
    if len(written) < len(rows):
        twice, _ = Counter(row["path"] for row in rows).most_common(1)[0]
        raise RunError(
            f"Spark wrote {len(rows)} rows for {len(written)} images, {twice} twice: this is a "
            "bug, please report it; write the table again with `overwrite`"
        )
    failed = (row for row in rows if row["status"] != "ok")
    named = islice(failed, NAMED_FAILURES)
    return Written(
        written, [FailedFile(row["path"], row["status"], row["error"] or "") for row in named]
    )


def quality_too(schema: StructType) -> StructType:
    """Return a schema with `QUALITY_COLUMNS`, for reading part files of which some lack them.

    Spark takes the schema from one part file, which an earlier version may have written.
    """
    from pyspark.sql.types import FloatType, StructField, StructType

    missing = [name for name in QUALITY_COLUMNS if name not in schema.names]
    return StructType([*schema.fields, *(StructField(name, FloatType()) for name in missing)])


def write_parquet(rows: DataFrame, folder: str) -> None:
    """Write a DataFrame to a new Parquet folder.

    The files of tasks appear only when the driver commits, whatever the cluster's default: a task
    that survives its driver must not add rows.
    """
    writer = rows.write.mode("append")
    writer.option("mapreduce.fileoutputcommitter.algorithm.version", "1").parquet(folder)
