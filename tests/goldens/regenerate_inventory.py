"""Write the files of S3 Inventory as Java's libraries for Parquet and ORC do, with Spark.

The columns, their types and the compressions are those of Amazon's user guide.
"""

from __future__ import annotations

import datetime as dt
import shutil
import tempfile
from pathlib import Path

from pyspark.sql import SparkSession

FOLDER = Path(__file__).parent / "inventory"
SCHEMA = (
    "bucket string not null, key string not null, version_id string, is_latest boolean, "
    "is_delete_marker boolean, size long, last_modified_date timestamp, e_tag string, "
    "storage_class string"
)
TIME = dt.datetime(2024, 5, 6, 7, 8, 9, 123000, dt.UTC)
ROWS = [
    ("bucket", "photos/", "v0", True, False, 0, TIME, "d41d", "STANDARD"),
    ("bucket", "photos/1 b+ü.png", "v1", True, False, 11, TIME, "e1", "STANDARD"),
    ("bucket", "photos/1 b+ü.png", "v2", False, False, 22, TIME, "e2", "STANDARD"),
    ("bucket", "photos/gone.png", "v3", True, True, None, TIME, None, None),
    ("bucket", "photos/notes.txt", "v4", True, False, 33, TIME, "e4", "STANDARD"),
    ("bucket", "photos/2%41.jpg", None, True, False, 44, TIME, "e5", "GLACIER"),
]


def main() -> None:
    """Write both files."""
    spark = SparkSession.builder.master("local[1]").getOrCreate()
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    spark.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MILLIS")
    rows = spark.createDataFrame(ROWS, SCHEMA).coalesce(1)
    for kind, compression in (("parquet", "snappy"), ("orc", "zlib")):
        with tempfile.TemporaryDirectory() as folder:
            to = f"{folder}/written"
            rows.write.format(kind).option("compression", compression).save(to)
            (part,) = Path(to).glob(f"*.{kind}")
            shutil.copy(part, FOLDER / f"files.{kind}")


if __name__ == "__main__":
    main()
