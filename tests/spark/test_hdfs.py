"""Images and a table on HDFS: a NameNode and a DataNode of Hadoop. Run by `make test-stores`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import drawn
import tables

pytest.importorskip("pyspark", reason="the Spark engine needs PySpark")

from pyspark.sql import SparkSession

import pomona
from hdfs_server import serving
from pomona.encoder.encoder import Encoder
from pomona.errors import SourceError
from pomona.spark.storage.hadoop.filesystem import hadoop_path, hadoop_system

pytestmark = pytest.mark.spark


@pytest.fixture
def hdfs(tmp_path: Path) -> Iterator[str]:
    """The URI of a running HDFS."""
    with serving(tmp_path / "hdfs") as server:
        yield server.uri


def test_images_and_table_may_be_on_hdfs(
    spark: SparkSession, hdfs: str, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    def put(file: Path, name: str) -> None:
        target = hadoop_path(spark, f"{hdfs}/photos/{name}")
        system = hadoop_system(spark, target)
        system.copyFromLocalFile(False, True, hadoop_path(spark, f"file:{file}"), target)

    for file in pictures.rglob("*"):
        if file.is_file():
            put(file, file.relative_to(pictures).as_posix())
    on_spark = pomona.SparkEngine(spark=spark)
    source, table = f"{hdfs}/photos", f"{hdfs}/features"
    first = pomona.extract(source, table, encoder=encoder, engine=on_spark)
    again = pomona.extract(source, table, encoder=encoder, engine=on_spark)
    written = hadoop_path(spark, table)
    copy = hadoop_path(spark, f"file:{tmp_path / 'far'}")
    hadoop_system(spark, written).copyToLocalFile(False, written, copy, True)
    pomona.extract(
        pictures, tmp_path / "near", encoder=encoder, engine=pomona.LocalEngine(workers=1)
    )
    far, near = tables.read(tmp_path / "far"), tables.read(tmp_path / "near")
    assert far["path"].to_pylist() == [
        path.replace(f"file:{pictures}", source) for path in near["path"].to_pylist()
    ]
    assert far["features"].equals(near["features"])
    assert (first.files, again.skipped, again.ok) == (14, 14, 0)

    changed = tmp_path / "changed.jpg"
    changed.write_bytes(drawn.encode(drawn.picture(seed=51), "JPEG"))
    put(changed, "Apple Red 1/image 3.jpg")
    put(changed, "new.jpg")
    done = pomona.extract(source, table, encoder=encoder, engine=on_spark)
    assert (done.changes.new, done.changes.changed, done.changes.unchanged) == (1, 1, 13)


def test_a_missing_folder_on_hdfs_is_refused_with_one_line(
    spark: SparkSession, hdfs: str, encoder: Encoder
) -> None:
    with pytest.raises(SourceError, match=f"{hdfs}/photos") as caught:
        pomona.extract(
            f"{hdfs}/photos",
            f"{hdfs}/features",
            encoder=encoder,
            engine=pomona.SparkEngine(spark=spark),
        )
    assert "\n" not in str(caught.value)
