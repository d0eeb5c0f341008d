"""What holds on each supported PySpark: `make test-spark-3.5`, `-4.0`, `-4.1` and `-newest`.

`make test` runs this file on the oldest PySpark, and all other Spark tests on the newest.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import drawn
import pomona
import tables
from pomona.encoder.encoder import Encoder

pytest.importorskip("pyspark", reason="these tests need PySpark")

import pyspark
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.feature import StringIndexer
from pyspark.sql import SparkSession
from pyspark.sql.functions import element_at, split

pytestmark = [
    pytest.mark.spark,
    pytest.mark.versions,
    # PySpark 3.5 uses distutils; setuptools provides it and warns.
    pytest.mark.filterwarnings("ignore:distutils Version classes:DeprecationWarning"),
    # PySpark 3.5's py4j leaves its sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def test_the_tested_pyspark_is_the_requested_one(spark: SparkSession) -> None:
    version = os.environ.get("POMONA_TEST_SPARK", pyspark.__version__)
    assert pyspark.__version__.startswith(version)
    assert spark.version.startswith(version)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures in two classes that any network separates, and one file that is not an image."""
    root = tmp_path_factory.mktemp("photos")
    for label, size in (("wide", (60, 20)), ("tall", (20, 60))):
        (root / label).mkdir()
        for seed in range(5):
            content = drawn.encode(drawn.picture(*size, seed), "PNG")
            (root / label / f"{label}{seed}.png").write_bytes(content)
    (root / "tall" / "page.png").write_bytes(b"<html>404</html>")
    return root


@pytest.fixture(scope="module")
def expected(photos: Path, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table that the embedded engine writes."""
    table = tmp_path_factory.mktemp("expected") / "t"
    pomona.extract(photos, table, encoder=encoder, engine=pomona.LocalEngine(workers=1))
    return table


def test_extract_gives_the_same_rows_as_the_embedded_engine(
    spark: SparkSession, encoder: Encoder, photos: Path, expected: Path, tmp_path: Path
) -> None:
    pomona.extract(photos, tmp_path / "t", encoder=encoder, engine=pomona.SparkEngine(spark=spark))
    assert tables.rows(tmp_path / "t") == tables.rows(expected)
    rows = pomona.spark.read_features(spark, tmp_path / "t", ok_only=False)
    assert rows.count() == 11


def test_every_api_gives_the_same_vectors(
    spark: SparkSession, encoder: Encoder, photos: Path, expected: Path, tmp_path: Path
) -> None:
    vectors = {name: row["features"] for name, row in tables.rows(expected).items()}
    reader = spark.read.format("binaryFile").option("recursiveFileLookup", "true")
    images = reader.load(str(photos))
    images.createOrReplaceTempView("images")
    udf = pomona.featurize_udf(encoder)
    spark.udf.register("featurize", udf)
    pomona.featurize(images, encoder, label="parent").write.parquet(str(tmp_path / "f"))
    ways = {
        "featurize": spark.read.parquet(str(tmp_path / "f")),
        "featurize_udf": images.select("path", udf("content").alias("features")),
        "SQL": spark.sql("select path, featurize(content) as features from images"),
        "ImageFeaturizer": pomona.ImageFeaturizer(encoder=encoder).transform(images),
    }
    for way, rows in ways.items():
        result = rows.select("path", "features").collect()
        assert {row["path"].rpartition("/")[2]: row["features"] for row in result} == vectors, way
    assert len(pomona.read_features(tmp_path / "f")) == 10


def test_a_pipeline_is_trained_saved_and_loaded(
    spark: SparkSession, encoder: Encoder, photos: Path, tmp_path: Path
) -> None:
    reader = spark.read.format("binaryFile").option("recursiveFileLookup", "true")
    images = reader.load(str(photos)).withColumn("kind", element_at(split("path", "/"), -2))
    stages = [
        pomona.ImageFeaturizer(encoder=encoder, vectorOutput=True, handleInvalid="skip"),
        StringIndexer(inputCol="kind", outputCol="label"),
        LogisticRegression(maxIter=5, regParam=0.01),
    ]
    Pipeline(stages=stages).fit(images).save(str(tmp_path / "a model"))
    loaded = PipelineModel.load(str(tmp_path / "a model"))
    rows = loaded.transform(images).select("label", "prediction").collect()
    assert [row["label"] == row["prediction"] for row in rows] == [True] * 10
    alone = pomona.ImageFeaturizer(encoder=encoder, outputCol="v")
    alone.write().overwrite().save(str(tmp_path / "stage"))
    restored = pomona.ImageFeaturizer.load(str(tmp_path / "stage"))
    assert (restored.getOutputCol(), restored.getEncoder().fingerprint) == (
        "v",
        encoder.fingerprint,
    )


@pytest.mark.usefixtures("spark")
def test_a_udf_created_in_another_thread_finds_the_session(encoder: Encoder) -> None:
    udfs: list[object] = []
    thread = threading.Thread(target=lambda: udfs.append(pomona.featurize_udf(encoder)))
    thread.start()
    thread.join()
    assert len(udfs) == 1


def test_each_image_is_computed_once_even_if_a_filter_follows(
    spark: SparkSession, encoder: Encoder, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts calls of the network, because query plans differ between versions of Spark."""
    runs = spark.sparkContext.accumulator(0)
    encoder_handle = pomona.spark.dataframe.featurize.encoder_handle

    class Counting:
        """A loaded network that counts images. As a local class, it is pickled by value."""

        def __init__(self, runtime: object) -> None:
            self._runtime = runtime
            for name in ("batch_size", "preprocessing", "dimension"):
                setattr(self, name, getattr(runtime, name))

        def predict(self, images: object, features: object) -> None:
            runs.add(len(images))
            self._runtime.predict(images, features)

    class CountingCarrier:
        def __init__(self, carrier: object) -> None:
            self._carrier = carrier

        def runtime(self) -> object:
            return Counting(self._carrier.runtime())

    monkeypatch.setattr(
        "pomona.spark.dataframe.featurize.encoder_handle",
        lambda *args: CountingCarrier(encoder_handle(*args)),
    )
    udf = pomona.featurize_udf(encoder, spark)
    spark.udf.register("counted", udf)
    images = spark.read.format("binaryFile").load(f"{photos}/wide")
    images.createOrReplaceTempView("wide")
    featurized = images.select("path", udf("content").alias("features"))
    once = {
        "where": featurized.where("features is not null"),
        "where twice": featurized.where("features is not null").where("size(features) = 1280"),
        "udf in where": images.where(udf("content").isNotNull()),
        "two columns": featurized.selectExpr("features", "size(features) as length"),
        "SQL": spark.sql(
            "select * from (select path, counted(content) as f from wide) where f is not null"
        ),
    }
    for query, rows in once.items():
        before = runs.value
        assert len(rows.collect()) == 5
        assert runs.value - before == 5, query
