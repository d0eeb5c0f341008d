"""Partitions and streaming sinks that Spark writes, and tables of other systems, on Spark."""

from __future__ import annotations

from pathlib import Path

import pytest

import tables

pytest.importorskip("pyspark", reason="the Spark engine needs PySpark")

from pyspark.sql import SparkSession

import pomona
import pomona.spark
from pomona.analysis.inspection import inspect
from pomona.encoder.encoder import Encoder
from pomona.errors import EncoderError, TableError
from pomona.spark.pca import project_on_spark
from pomona.table.feature_table import FeatureTable

pytestmark = pytest.mark.spark

LABELS = ["01", "a/b=c %41 'é'", None, "true", "2024-01-01"]
_FOLDERS = ["01", "a*b*", "__HIVE*", "true", "2024-01-01"]  # the labels, as patterns
VECTORS = [[float(n), 1.0, 2.0] for n in range(len(LABELS))]


def _by_vector(table: str | Path) -> dict[float, str | None]:
    result = pomona.read_features(table)
    return dict(zip(result.vectors[:, 0].tolist(), result.labels, strict=True))


def test_both_engines_read_partitions_and_sinks_of_spark_but_do_not_append(
    spark: SparkSession, tmp_path: Path, remote: str, pictures: Path, encoder: Encoder
) -> None:
    flat = tables.write(tmp_path / "flat", VECTORS, LABELS, parts=5)
    rows = spark.read.parquet(f"file:{flat}")
    rows.write.partitionBy("label").parquet(f"file:{tmp_path}/partitioned")
    stream = (
        spark.readStream.schema(rows.schema)
        .option("maxFilesPerTrigger", 1)
        .parquet(f"file:{flat}")
        .writeStream.partitionBy("label")
        .option("checkpointLocation", f"file:{tmp_path}/checkpoint")
        .trigger(availableNow=True)
        .start(f"file:{tmp_path}/sink", format="parquet")
    )
    stream.awaitTermination(120)
    lost = next((tmp_path / "sink").glob("label=true/*.parquet"))
    lost.with_name("part-lost.parquet").write_bytes(lost.read_bytes())  # no batch lists it

    expected = dict(enumerate(LABELS))
    for name in ("partitioned", "sink"):
        for table in (str(tmp_path / name), f"{remote}/{name}"):
            assert _by_vector(table) == expected
            assert inspect(FeatureTable.at(table)).rows == len(LABELS)
            by_spark = pomona.spark.read_features(spark, table)
            assert by_spark.count() == len(LABELS)
            assert {row["features"][0]: row["label"] for row in by_spark.collect()} == expected
            assert pomona.spark.provenance(by_spark)["fingerprint"] == "a" * 64
            with pytest.raises(TableError, match="give another TABLE") as refusal:
                pomona.extract(
                    pictures, table, encoder=encoder, engine=pomona.SparkEngine(spark=spark)
                )
            assert "move" not in str(refusal.value)
    for root in (tmp_path, remote):
        for number, label in expected.items():
            (part,) = (tmp_path / "partitioned").glob(f"label={_FOLDERS[number]}")
            by_spark = pomona.spark.read_features(spark, f"{root}/partitioned/{part.name}")
            assert [(row["features"][0], row["label"]) for row in by_spark.collect()] == [
                (number, label)
            ]
    features = pomona.spark.read_features(spark, spark.read.parquet(f"file:{flat}"))
    assert features.count() == len(LABELS)
    with pytest.raises(TableError, match="no column 'error'"):
        pomona.spark.read_features(spark, rows.drop("error"))
    with pytest.raises(TableError, match="does not say which encoder made its column features"):
        pomona.spark.read_features(
            spark,
            rows.selectExpr("*", "features as f")
            .drop("features")
            .withColumnRenamed("f", "features")
            .withMetadata("features", {}),
        )
    projection = project_on_spark(f"{remote}/partitioned", str(tmp_path / "small"), 2, spark=spark)
    assert projection.rows == len(LABELS)


@pytest.mark.parametrize("place", ["", "/label=apple"])
def test_a_delta_table_is_refused_by_its_name_by_every_reader_and_writer_of_spark(
    spark: SparkSession,
    tmp_path: Path,
    remote: str,
    pictures: Path,
    encoder: Encoder,
    place: str,
) -> None:
    (tmp_path / "t" / "_delta_log").mkdir(parents=True)
    (tmp_path / "t" / "_delta_log" / "00000000000000000000.json").write_text("{}")
    tables.write(tmp_path / f"t{place}", VECTORS, LABELS)
    for table in (f"{tmp_path}/t{place}", f"{remote}/t{place}"):
        with pytest.raises(TableError, match="a Delta table.*read_features"):
            pomona.spark.read_features(spark, table)
        with pytest.raises(TableError, match="a Delta table"):
            FeatureTable.at(table).provenance()
        with pytest.raises(TableError, match="a Delta table.*read_features"):
            project_on_spark(table, str(tmp_path / "small"), 2, spark=spark)
        with pytest.raises(TableError, match="a Delta table"):
            pomona.extract(
                pictures,
                table,
                encoder=encoder,
                engine=pomona.SparkEngine(spark=spark),
                resume=pomona.Resume(overwrite=True),
            )


def test_an_unreachable_file_system_is_reported_in_one_line(
    spark: SparkSession, tmp_path: Path
) -> None:
    with pytest.raises(TableError, match=r"Spark cannot read s3://b/t: .*; write s3a:// instead"):
        pomona.spark.read_features(spark, "s3://b/t")
    with pytest.raises(
        TableError, match=r"Spark cannot read hdfs://no.host.invalid:1/t: .*no\.host"
    ):
        pomona.spark.read_features(spark, "hdfs://no.host.invalid:1/t")
    images = spark.createDataFrame([("a", b"")], "path string, content binary")
    message = "cannot read the encoder hdfs://no.host.invalid:1/e: .*UnknownHost.*"
    with pytest.raises(EncoderError, match=message) as caught:
        pomona.featurize(images, "hdfs://no.host.invalid:1/e")
    assert len(str(caught.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())
