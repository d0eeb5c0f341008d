"""Parquet files that Spark writes, and a look at what it wrote."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pomona.errors import RunError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["write_parquet", "written_once"]


def written_once(rows: list[dict[str, str]]) -> dict[str, str]:
    """Path -> status of the rows that Spark wrote.

    Raises:
        RunError: it wrote an image twice.
    """
    written = {row["path"]: row["status"] for row in rows}
    if len(written) < len(rows):
        twice, _ = Counter(row["path"] for row in rows).most_common(1)[0]
        raise RunError(
            f"Spark wrote {len(rows)} rows for {len(written)} images, {twice} twice: this is a "
            "bug, please report it; write the table anew with --overwrite"
        )
    return written


def write_parquet(rows: DataFrame, folder: str) -> None:
    """Write a DataFrame to a new Parquet folder.

    Only the driver's commit makes files of tasks appear, whatever the cluster's default: a task
    that runs on after its driver has gone must not add rows.
    """
    writer = rows.write.mode("append")
    writer.option("mapreduce.fileoutputcommitter.algorithm.version", "1").parquet(folder)
