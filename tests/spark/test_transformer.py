"""`ImageFeaturizer`: a Spark ML stage, in pipelines, saved and loaded."""

from __future__ import annotations

import dataclasses
import gc
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import drawn
import tables

pytest.importorskip("pyspark", reason="Spark ML needs PySpark")

from pyspark.errors import PythonException
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.feature import PCA, StringIndexer, VectorSlicer
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import element_at, regexp_extract, split

import pomona
from places import REPOSITORY
from pomona.encoder.encoder import Encoder
from pomona.errors import EncoderError, EngineError
from pomona.spark.dataframe.transformer import ImageFeaturizer

pytestmark = pytest.mark.spark


def images(spark: SparkSession, folder: Path) -> DataFrame:
    reader = spark.read.format("binaryFile").option("recursiveFileLookup", "true")
    return reader.load(str(folder)).where("path not like '%.txt'")


@pytest.fixture(scope="module")
def fruit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures in two classes that any network separates, and one invalid file."""
    root = tmp_path_factory.mktemp("fruit")
    for seed in range(6):
        for label, size in (("wide", (60, 20)), ("tall", (20, 60))):
            (root / label).mkdir(exist_ok=True)
            picture = drawn.picture(*size, seed)
            picture = picture.convert("L") if label == "tall" else picture
            (root / label / f"{seed}.png").write_bytes(drawn.encode(picture, "PNG"))
    (root / "tall" / "page.png").write_bytes(b"<html>404</html>")
    return root


def test_two_columns_with_the_same_name_are_refused(
    spark: SparkSession, encoder: Encoder, pictures: Path
) -> None:
    featurizer = ImageFeaturizer(encoder=encoder, outputCol="f", errorCol="f")
    with pytest.raises(EngineError, match="'f' for outputCol and errorCol: give two names"):
        featurizer.transform(images(spark, pictures))


def test_vectors_equal_those_of_extract_and_other_columns_stay(
    spark: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    pomona.extract(pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1))
    expected = tables.rows(tmp_path / "t")
    featurizer = ImageFeaturizer(encoder=encoder, errorCol="error")
    result = featurizer.transform(images(spark, pictures)).collect()
    assert result[0].asDict().keys() == {
        "path", "modificationTime", "length", "content", "features", "error",
        "features_encoder",
    }  # fmt: skip
    good = 0
    for row in result:
        reference = expected[row["path"].rpartition("/")[2]]
        assert row["features"] == reference["features"]
        if reference["status"] == "ok":
            good += 1
            assert row["error"] is None
        else:
            assert row["error"] == f"{reference['status']}: {reference['error']}"
    assert good == 11


def test_ml_vectors_have_the_same_numbers_and_null_if_there_is_none(
    spark: SparkSession, encoder: Encoder, fruit: Path
) -> None:
    frame = images(spark, fruit)
    plain = ImageFeaturizer(encoder=encoder).transform(frame)
    featurizer = ImageFeaturizer(encoder=encoder, vectorOutput=True, outputCol="v").transform(plain)
    rows = featurizer.select("path", "features", "v").collect()
    assert len(rows) == 13
    for row in rows:
        if row["path"].endswith("page.png"):
            assert row["v"] is None
        else:
            np.testing.assert_array_equal(row["v"].toArray(), row["features"])


def test_the_column_records_its_encoder(spark: SparkSession, encoder: Encoder, fruit: Path) -> None:
    featurized = ImageFeaturizer(encoder=encoder).transform(images(spark, fruit))
    assert pomona.spark.provenance(featurized)["fingerprint"] == encoder.fingerprint
    assert featurized.schema["features"].metadata["ml_attr"] == {"num_attrs": 1280}


def test_invalid_images_are_kept_skipped_or_an_error(
    spark: SparkSession, encoder: Encoder, fruit: Path
) -> None:
    frame = images(spark, fruit)
    counts = {
        how: ImageFeaturizer(encoder=encoder, handleInvalid=how).transform(frame).count()
        for how in ("keep", "skip")
    }
    assert counts == {"keep": 13, "skip": 12}
    strict = ImageFeaturizer(encoder=encoder).setHandleInvalid("error")
    with pytest.raises(PythonException, match="an image is unsupported"):
        strict.transform(frame).select("features").collect()


def test_each_image_is_computed_once_even_if_two_columns_derive_from_it(
    spark: SparkSession, encoder: Encoder, fruit: Path
) -> None:
    featurized = ImageFeaturizer(encoder=encoder, errorCol="e").transform(images(spark, fruit))
    plan = featurized.select("features", "e").where("e is null")
    plan = plan._jdf.queryExecution().executedPlan().toString()
    assert plan.count("ArrowEvalPython") == 1
    assert plan.count("features(content") == 1


@pytest.mark.long
def test_a_pipeline_with_spark_ml_is_trained_saved_and_loaded(
    spark: SparkSession, encoder: Encoder, fruit: Path, tmp_path: Path
) -> None:
    frame = images(spark, fruit).withColumn("kind", element_at(split("path", "/"), -2))
    stages = [
        ImageFeaturizer(encoder=encoder, vectorOutput=True, handleInvalid="skip"),
        StringIndexer(inputCol="kind", outputCol="label"),
        # All 1,280 would work too, but Spark's PCA takes half a minute for them.
        VectorSlicer(inputCol="features", outputCol="some", indices=list(range(64))),
        PCA(k=4, inputCol="some", outputCol="few"),
        LogisticRegression(featuresCol="few", maxIter=5, regParam=0.1),
    ]
    model = Pipeline(stages=stages).fit(frame)
    model.write().overwrite().save(str(tmp_path / "a model"))
    restored = PipelineModel.load(str(tmp_path / "a model"))
    rows = restored.transform(frame).select("label", "prediction").collect()
    assert len(rows) == 12
    assert all(row["label"] == row["prediction"] for row in rows)
    loaded = restored.stages[0]
    assert isinstance(loaded, ImageFeaturizer)
    assert loaded.getEncoder().to_bytes() == encoder.to_bytes()
    assert loaded.uid == stages[0].uid
    assert loaded.getVectorOutput()
    assert loaded.getHandleInvalid() == "skip"


# PySpark leaves the threads of a CrossValidator to the garbage collector, which warns.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_cross_validator_tunes_stages_after_it(
    spark: SparkSession, encoder: Encoder, fruit: Path
) -> None:
    frame = images(spark, fruit).where("path not like '%page.png'")
    number = regexp_extract("path", r"(\d+)\.png", 1).cast("int")
    frame = frame.withColumn("kind", element_at(split("path", "/"), -2)).withColumn(
        "fold", number % 2
    )
    regression = LogisticRegression(maxIter=10)
    validator = CrossValidator(
        estimator=regression,
        estimatorParamMaps=ParamGridBuilder().addGrid(regression.regParam, [1000.0, 0.01]).build(),
        evaluator=MulticlassClassificationEvaluator(metricName="logLoss"),
        numFolds=2,
        foldCol="fold",
    )
    featurizer = ImageFeaturizer(encoder=encoder, vectorOutput=True)
    vectors = featurizer.transform(frame).drop("content").coalesce(1).cache()
    indexed = StringIndexer(inputCol="kind", outputCol="label").fit(vectors).transform(vectors)
    chosen = validator.fit(indexed)
    weak, strong = chosen.avgMetrics
    assert strong < 0.5 < weak  # strong regularisation leaves almost no information: log 2 is 0.69
    assert chosen.bestModel.getRegParam() == 0.01
    vectors.unpersist()
    gc.collect()


def test_params_are_explained_copied_and_overridden(encoder: Encoder) -> None:
    featurizer = ImageFeaturizer(encoder=encoder)
    assert "inputCol: input column name. (default: content" in featurizer.explainParams()
    other = featurizer.copy({featurizer.outputCol: "vectors"})
    assert (other.getOutputCol(), featurizer.getOutputCol()) == ("vectors", "features")
    assert other.getEncoder() is encoder
    assert featurizer.setParams(inputCol="bytes").getInputCol() == "bytes"
    assert featurizer.setInputCol("a").setOutputCol("b").setErrorCol("c").getErrorCol() == "c"


def test_an_encoder_may_be_a_file(encoder: Encoder, tmp_path: Path) -> None:
    encoder.save(tmp_path / "fruit.encoder")
    featurizer = ImageFeaturizer(encoder=tmp_path / "fruit.encoder")
    assert featurizer.getEncoder().fingerprint == encoder.fingerprint


def test_a_new_encoder_replaces_the_first(
    spark: SparkSession, encoder: Encoder, fruit: Path
) -> None:
    frame = images(spark, fruit)
    featurizer = ImageFeaturizer(encoder=encoder)
    featurizer.transform(frame)
    other = dataclasses.replace(encoder, weights="another name")
    featurizer.setEncoder(other)
    assert pomona.spark.provenance(featurizer.transform(frame))["weights"] == "another name"


def test_invalid_arguments_are_refused_before_anything_runs(
    spark: SparkSession, encoder: Encoder, fruit: Path
) -> None:
    frame = images(spark, fruit)
    with pytest.raises(EncoderError, match="has no encoder"):
        ImageFeaturizer().transform(frame)
    with pytest.raises(EngineError, match="inputCol 'bytes'; this DataFrame has the columns path"):
        ImageFeaturizer(encoder=encoder, inputCol="bytes").transform(frame)
    with pytest.raises(EngineError, match="column 'path' is of type string"):
        ImageFeaturizer(encoder=encoder, inputCol="path").transform(frame)
    with pytest.raises(EngineError, match="would add a column 'length'"):
        ImageFeaturizer(encoder=encoder, outputCol="length").transform(frame)
    with pytest.raises(TypeError, match="handleInvalid"):
        ImageFeaturizer(encoder=encoder, handleInvalid="drop")
    with pytest.raises(TypeError, match="encoder is a int"):
        ImageFeaturizer(encoder=7)  # type: ignore[arg-type]


def test_the_transfer_learning_example_reaches_the_expected_error(
    spark: SparkSession,
    encoder: Encoder,
    fruit: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    example = runpy.run_path(str(REPOSITORY / "examples" / "transfer_learning_spark.py"))
    error = example["run"](spark, str(fruit), str(tmp_path / "t"), encoder, seed=3)
    output = capsys.readouterr().out
    assert error == 0
    assert "Test error: 0.0000 on " in output
    assert "unsupported: " in output


PROGRAM = """
import sys
import pomona
from pyspark.sql import SparkSession

address, encoder, pictures = sys.argv[1:]
spark = SparkSession.builder.remote(address).getOrCreate()
images = spark.read.format("binaryFile").load(pictures)
featurizer = pomona.ImageFeaturizer(
    encoder=encoder, errorCol="error", vectorOutput=True, handleInvalid="skip"
)
rows = featurizer.transform(images).select("features", "error").collect()
print(len(rows), {len(row["features"]) for row in rows}, {row["error"] for row in rows})
spark.stop()
"""


def test_the_featurizer_works_on_spark_connect(
    connect_server: str, encoder: Encoder, fruit: Path, tmp_path: Path
) -> None:
    encoder.save(tmp_path / "fruit.encoder")
    arguments = [connect_server, str(tmp_path / "fruit.encoder"), str(fruit / "tall")]
    completed = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False
    )
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout == "6 {1280} {None}\n"
