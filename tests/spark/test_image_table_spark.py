"""Parquet files with images that Spark wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pyspark", reason="PySpark writes the files")

from pyspark.sql import SparkSession

from pomona.source.image_table import ImageColumns, TableImages

pytestmark = pytest.mark.spark


def test_files_of_spark_are_read(spark: SparkSession, tmp_path: Path) -> None:
    contents = {number: bytes([number % 256]) * (1 + number * 10) for number in range(500)}
    rows = [(number, bytearray(content), "x") for number, content in contents.items()]
    frame = spark.createDataFrame(rows, "id bigint, data binary, other string")
    frame.repartition(3).write.parquet(f"file:{tmp_path}/images")  # with _SUCCESS and checksums
    images = TableImages(str(tmp_path / "images"), ImageColumns("data", "id"))
    images.check()
    files = list(images.files(lambda _: None))
    assert len(files) == 500
    found = {
        int(file.path): content
        for file, (content, _) in zip(files, images.reader.read(files), strict=True)
    }
    assert found == contents
