"""Write a Delta table of images as Spark does, with deleted rows that its files still contain.

Needs PySpark 4.0 and the jar of Delta, which `make test-formats` gets.
"""

from __future__ import annotations

import io
import shutil
import sys
from datetime import date
from pathlib import Path

from pyspark.sql import SparkSession

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))

from noise import noise  # noqa: E402 - beside this folder


def main() -> None:
    shutil.rmtree(FOLDER / "delta", ignore_errors=True)
    table = f"delta.`{FOLDER / 'delta'}`"
    spark = (
        SparkSession.builder.master("local[1]")
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config(
            "spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog"
        )
        .getOrCreate()
    )
    spark.sql(
        f"create table {table} (id string, data binary, kind string, day date) using delta "
        "partitioned by (kind, day) tblproperties('delta.enableDeletionVectors' = 'true', "
        "'delta.checkpointPolicy' = 'v2', 'delta.checkpointInterval' = '2')"
    )
    rows = []
    for number in range(8):
        file = io.BytesIO()
        noise(20 + number, 30 - number).save(file, "PNG")
        kind = ("a/b c", "quince", None)[number % 3]
        rows.append((f"k{number}", file.getvalue(), kind, date(2024, 5, 1)))
    names = "id string, data binary, kind string, day date"

    def append(some: list[tuple[object, ...]], schema: str) -> None:
        made = spark.createDataFrame(some, schema).coalesce(1).write.format("delta")
        made.mode("append").option("mergeSchema", "true").save(str(FOLDER / "delta"))

    append(rows[:6], names)
    spark.sql(f"delete from {table} where id in ('k0', 'k4')")  # noqa: S608
    append([(*row, "north") for row in rows[6:]], f"{names}, site string")
    spark.sql(f"delete from {table} where id = 'k5'")  # noqa: S608
    spark.stop()
    for checksum in (FOLDER / "delta").rglob(".*.crc"):
        checksum.unlink()


main()
