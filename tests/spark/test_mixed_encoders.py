"""Rows of two encoders that Spark itself combined are detected and refused by readers."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import drawn
import pomona
import tables
from pomona.encoder.encoder import Encoder
from pomona.errors import TableError
from pomona.schema import ENCODER_COLUMN, encoder_of_row, encoder_value, schema_with_provenance

pytest.importorskip("pyspark", reason="DataFrames of Spark need PySpark")

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

MIXES = "mixes rows of two encoders"


@pytest.fixture(scope="module")
def other(encoder: Encoder) -> Encoder:
    """The same network with a different fingerprint."""
    return dataclasses.replace(encoder, weights="other", weights_sha256="0" * 64)


@pytest.fixture(scope="module")
def images(spark: SparkSession) -> DataFrame:
    content = bytearray(drawn.encode(drawn.picture(), "PNG"))
    rows = [(f"file:/{name}.png", content) for name in "ab"]
    return spark.createDataFrame(rows, "path string, content binary").coalesce(1)


@pytest.mark.spark
def test_each_row_records_its_encoder(images: DataFrame, encoder: Encoder) -> None:
    featurized = pomona.featurize(images, encoder)
    recorded = encoder_of_row(featurized.collect()[0][ENCODER_COLUMN])
    assert recorded == pomona.spark.provenance(featurized)
    assert recorded["fingerprint"] == encoder.fingerprint
    assert (recorded["weights"], recorded["decode"]) == ("untrained:7", "exact")


@pytest.mark.spark
def test_every_reader_refuses_a_union_and_an_append(
    spark: SparkSession, images: DataFrame, encoder: Encoder, other: Encoder, tmp_path: Path
) -> None:
    one = pomona.featurize(images, encoder)
    two = pomona.featurize(images, other)
    fast = pomona.featurize(images, encoder, decode=pomona.DecodeOptions(fast=True))
    one.union(two).coalesce(1).write.parquet(str(tmp_path / "union"))
    one.unionByName(fast).coalesce(1).write.parquet(str(tmp_path / "fast"))
    # An append to a Delta table has the same effect: all files carry the first side's metadata.
    two.select(
        *(two[name].alias(name, metadata=one.schema[name].metadata) for name in two.columns)
    ).write.parquet(str(tmp_path / "append"))
    one.write.mode("append").parquet(str(tmp_path / "append"))
    for name in ("union", "fast", "append"):
        path = tmp_path / name
        both = f"{encoder.fingerprint[:12]}.*{'`decode` fast' if name == 'fast' else ''}"
        if name != "fast":
            both = f"({both}{other.fingerprint[:12]}|{other.fingerprint[:12]}.*{both})"
        for read in (
            pomona.read_features,
            lambda at: pomona.FeatureTable.at(at).provenance(),
            lambda at: pomona.spark.read_features(spark, at),
            lambda at: pomona.spark.read_features(spark, f"viewfs://test/data/{at.name}"),
            lambda at: pomona.spark.read_features(spark, spark.read.parquet(str(at))),
            lambda at: pomona.spark.one_encoder(spark.read.parquet(str(at))),
        ):
            configuration = spark.sparkContext._jsc.hadoopConfiguration()
            configuration.set("fs.viewfs.mounttable.test.link./data", f"file://{tmp_path}")
            configuration.set("fs.viewfs.impl.disable.cache", "true")
            with pytest.raises(TableError, match=MIXES):
                read(path)
        with pytest.raises(TableError, match=both):
            pomona.FeatureTable.at(path).provenance()
    completed = subprocess.run(
        [sys.executable, "-m", "pomona", "inspect", str(tmp_path / "union")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (completed.returncode, len(completed.stderr.splitlines())) == (2, 1)
    assert MIXES in completed.stderr
    assert completed.stderr.endswith("; use one table for each encoder\n")


@pytest.mark.spark
def test_rows_that_lost_their_metadata_are_still_recognised(
    spark: SparkSession, images: DataFrame, encoder: Encoder, other: Encoder, tmp_path: Path
) -> None:
    """Iceberg stores rows without this metadata."""
    featurized = pomona.featurize(images, encoder)
    bare = featurized.select(
        *(featurized[name].alias(name, metadata={}) for name in featurized.columns)
    )
    bare.write.parquet(str(tmp_path / "bare"))
    assert pomona.spark.provenance(spark.read.parquet(str(tmp_path / "bare"))) == {}
    assert pomona.read_features(tmp_path / "bare").provenance["fingerprint"] == encoder.fingerprint
    for table in (tmp_path / "bare", spark.read.parquet(str(tmp_path / "bare"))):
        rows = pomona.spark.read_features(spark, table)
        assert pomona.spark.provenance(rows)["fingerprint"] == encoder.fingerprint
        assert rows.count() == 2
    # Copies of its part files could no longer record their encoder, so a run does not continue it.
    with pytest.raises(TableError, match="not in its footer"):
        pomona.FeatureTable.at(tmp_path / "bare").check_continuable(
            pomona.FeatureTable.at(tmp_path / "bare").provenance()
        )
    two = pomona.featurize(images, other)
    mixed = spark.read.parquet(str(tmp_path / "bare")).union(two)
    mixed.write.parquet(str(tmp_path / "mixed"))
    with pytest.raises(TableError, match=MIXES):
        pomona.read_features(tmp_path / "mixed")


@pytest.mark.spark
def test_tables_that_pomona_read_are_distinguishable_after_a_union(
    spark: SparkSession, tmp_path: Path
) -> None:
    for letter in "ab":
        tables.write(tmp_path / letter, np.eye(3), "xyz", fingerprint=letter * 64)
    one, two = (pomona.spark.read_features(spark, tmp_path / letter) for letter in "ab")
    assert pomona.spark.one_encoder(one)["fingerprint"] == "a" * 64
    with pytest.raises(TableError, match=MIXES):
        pomona.spark.one_encoder(one.union(two))


@pytest.mark.spark
def test_stages_of_a_pipeline_record_their_encoder_in_each_row(
    images: DataFrame, encoder: Encoder, other: Encoder
) -> None:
    one, two = (pomona.ImageFeaturizer(encoder=each).transform(images) for each in (encoder, other))
    assert pomona.spark.one_encoder(one, "features_encoder")["fingerprint"] == encoder.fingerprint
    with pytest.raises(TableError, match=MIXES):
        pomona.spark.one_encoder(one.union(two), "features_encoder")
    without = pomona.ImageFeaturizer(encoder=encoder, encoderCol="").transform(images)
    assert without.columns == ["path", "content", "features"]


@pytest.mark.spark
def test_extract_continues_what_featurize_wrote_unless_it_has_more_columns(
    spark: SparkSession, encoder: Encoder, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    for seed in range(3):
        content = drawn.encode(drawn.picture(30, 20, seed), "PNG")
        (tmp_path / "photos" / f"{seed}.png").write_bytes(content)
    files = spark.read.format("binaryFile").load(f"{tmp_path}/photos").where("path like '%0.png'")
    pomona.featurize(files, encoder).write.parquet(str(tmp_path / "t"))
    engines = (pomona.LocalEngine(workers=1), pomona.SparkEngine(spark=spark))
    for number, engine in enumerate(engines):
        (tmp_path / "photos" / f"new {number}.png").write_bytes(content)
        summary = pomona.extract(
            tmp_path / "photos", tmp_path / "t", encoder=encoder, engine=engine
        )
        assert summary.skipped
    assert len(pomona.read_features(tmp_path / "t")) == 5
    more = pomona.featurize(files, encoder, keep=["length"])
    more.write.parquet(str(tmp_path / "more"))
    assert len(pomona.read_features(tmp_path / "more")) == 1
    for engine in engines:
        with pytest.raises(TableError, match="columns that a run does not write .length."):
            pomona.extract(tmp_path / "photos", tmp_path / "more", encoder=encoder, engine=engine)
    shutil.rmtree(tmp_path / "more")


def test_rows_of_earlier_versions_are_described_by_the_footer(tmp_path: Path) -> None:
    """Their `encoder` column is missing, null after an append, or a column of the user's."""
    footer = {"fingerprint": "a" * 64, "model": "m", "weights": "w"}
    tables.write(tmp_path / "t", np.eye(3), "xyz")
    (part,) = pomona.FeatureTable.at(tmp_path / "t").parts()
    rows = pq.read_table(part)
    for values, refused in (
        (pa.nulls(3, pa.string()), False),
        ([None, encoder_value(footer), None], False),
        (["mine", "{}", "[1]"], False),
        ([{"name": "mine"}] * 3, False),
        ([1, 2, 3], False),
        ([None, encoder_value({**footer, "fingerprint": "b" * 64}), None], True),
    ):
        column = pa.array(values)
        pq.write_table(rows.append_column(ENCODER_COLUMN, column), part)
        table = pomona.FeatureTable.at(tmp_path / "t")
        if refused:
            with pytest.raises(TableError, match=MIXES):
                table.provenance()
        else:
            assert table.provenance()["fingerprint"] == "a" * 64
    assert schema_with_provenance(footer).names == pq.read_schema(part).names[:-1]
