"""Both engines on one bucket: `hadoop-aws` on Spark, Arrow without. Run by `make test-stores`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import drawn

pytest.importorskip("pyspark", reason="the Spark engine needs PySpark")

from pyspark.sql import SparkSession

import pomona
from cloud_servers import STORES
from pomona.encoder.encoder import Encoder
from pomona.errors import TableError
from pomona.job.summary import Summary
from pomona.spark.storage.hadoop.store import HadoopStore
from pomona.table.feature_table import FeatureTable
from pomona.table.lease import Lease
from s3_server import S3, s3

__all__ = ["s3"]

pytestmark = pytest.mark.spark


@pytest.fixture
def on_spark(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[SparkSession]:
    """A session with `hadoop-aws` that finds the server."""
    jars = sorted((STORES / "hadoop-aws").glob("*.jar"))
    if not jars:
        pytest.skip("hadoop-aws, Spark's access to S3, is missing: run make test-stores")
    if SparkSession.getActiveSession():
        pytest.skip("a session without hadoop-aws is running: run this file alone")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    settings = {
        "spark.jars": ",".join(map(str, jars)),
        "spark.hadoop.fs.s3a.endpoint": s3.endpoint,
        "spark.hadoop.fs.s3a.endpoint.region": "us-east-1",
        "spark.hadoop.fs.s3a.path.style.access": "true",
        "spark.hadoop.fs.s3a.access.key": "key",
        "spark.hadoop.fs.s3a.secret.key": "secret",
        "spark.ui.enabled": "false",
    }
    builder = SparkSession.builder.master("local[2]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield session
    session.stop()


def rows(table: object) -> pa.Table:
    """The rows of a table, without when their files changed."""
    found = pa.Table.from_batches(list(FeatureTable.at(str(table)).batches()))
    return found.drop_columns(["modified"]).sort_by("path").combine_chunks()


def test_each_engine_continues_the_others_table_in_a_bucket_and_keeps_it_away(
    on_spark: SparkSession, s3: S3, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    spark, embedded = pomona.SparkEngine(spark=on_spark), pomona.LocalEngine(workers=1)

    def run(source: object, table: object, engine: object, **more: object) -> Summary:
        return pomona.extract(source, table, encoder=encoder, engine=engine, **more)

    first = run(pictures, "s3://bucket/features", embedded)
    assert run(pictures, "s3a://bucket/features", spark).skipped == first.files == 14
    (pictures / "new.png").write_bytes(drawn.encode(drawn.picture(seed=9), "PNG"))
    (pictures / "Apple Red 1" / "image 1.png").unlink()
    prune = pomona.Resume(prune=True)
    assert run(pictures, "s3a://bucket/features", spark, resume=prune).changes.pruned == 1
    assert run(pictures, "s3://bucket/features", embedded, label="none").changes.relabelled == 14
    assert run(pictures, "s3a://bucket/features", spark).skipped == 14
    run(pictures, tmp_path / "near", embedded, label="none")
    assert rows("s3://bucket/features").equals(rows(tmp_path / "near"))

    s3.put_folder(pictures, "bucket/photos")
    assert run("s3a://bucket/photos", "s3a://bucket/both", spark).files == 14
    assert run("s3://bucket/photos", "s3://bucket/both", embedded).skipped == 14

    other = dataclasses.replace(encoder, weights_sha256="8" * 64)
    for table, engine in (("s3a://bucket/both", spark), ("s3://bucket/both", embedded)):
        with pytest.raises(TableError, match="another encoder"):
            pomona.extract(pictures, table, encoder=other, engine=engine)
    with (
        Lease(FeatureTable.at("s3://bucket/both").store),
        pytest.raises(TableError, match="another run is writing"),
    ):
        run(pictures, "s3a://bucket/both", spark)
    with (
        Lease(HadoopStore("s3a://bucket/both", on_spark)),
        pytest.raises(TableError, match="another run is writing"),
    ):
        run(pictures, "s3://bucket/both", embedded)
