"""`read_features`: one matrix for notebooks, from this machine and from Spark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import pomona
import pomona.spark
import tables
from pomona.analysis.vectors import open_vectors
from pomona.encoder.encoder import Encoder
from pomona.errors import TableError, UsageError
from pomona.notebook import html_table

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MATRIX = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
LABELS = ["Apple", "<script>alert(1)</script>", None] * 3
FAILED = [("file:/pictures/Apple/empty.jpg", "empty")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("read features") / "a table"
    return tables.write(folder, MATRIX, LABELS, failed=FAILED, parts=2)


def test_the_matrix_and_the_table_share_memory(folder: Path) -> None:
    features = pomona.read_features(folder)
    lists = features.table["features"].chunk(0)  # combine_chunks would copy
    assert np.shares_memory(features.vectors, lists.flatten().to_numpy())
    np.testing.assert_array_equal(features.vectors, MATRIX)
    assert features.vectors.dtype == np.float32
    assert features.vectors.flags.c_contiguous


def test_labels_and_paths_are_in_the_order_of_the_matrix(folder: Path) -> None:
    features = pomona.read_features(folder)
    assert features.labels.tolist() == LABELS
    assert features.paths[0] == "file:/pictures/Apple/0.jpg"
    assert (len(features), features.dimension) == (9, 4)


def test_images_without_a_vector_are_listed_with_their_status(folder: Path) -> None:
    failed = pomona.read_features(folder).failed.to_pylist()
    assert [(row["path"], row["status"]) for row in failed] == FAILED
    assert failed[0]["error"] == "drawn as empty"


def test_pandas_gets_views_of_the_matrix(folder: Path) -> None:
    features = pomona.read_features(folder)
    frame = features.to_pandas()
    assert list(frame.columns) == ["path", "label", "features"]
    assert np.shares_memory(frame["features"][3], features.vectors)
    assert [label if isinstance(label, str) else None for label in frame["label"]] == LABELS


def test_a_notebook_displays_labels_as_text_and_failures_with_their_reason(folder: Path) -> None:
    shown = pomona.read_features(folder)._repr_html_()
    assert "9 vectors of 4 numbers" in shown
    assert "<script>" not in shown
    assert "&lt;script&gt;alert(1)" in shown
    assert "drawn as empty" in shown


def test_encoders_and_open_tables_have_a_notebook_display_too(
    folder: Path, encoder: Encoder
) -> None:
    assert encoder.fingerprint in encoder._repr_html_()
    opened = open_vectors(pomona.FeatureTable.at(str(folder)))
    assert "9 vectors of 4 numbers" in opened._repr_html_()


def test_an_empty_cell_is_empty_and_not_none() -> None:
    assert "<td></td><td>0</td>" in html_table(["a", "b"], [[None, 0]])


def test_two_encoders_are_refused(tmp_path: Path) -> None:
    tables.write(tmp_path, MATRIX, LABELS, fingerprint="a" * 64)
    tables.write(tmp_path, MATRIX, LABELS, fingerprint="b" * 64)
    with pytest.raises(TableError, match="mixes rows of two encoders"):
        pomona.read_features(tmp_path)


@pytest.mark.spark
def test_spark_reads_the_rows_with_a_vector_and_their_provenance(
    spark: SparkSession, folder: Path
) -> None:
    features = pomona.spark.read_features(spark, folder)
    assert {tuple(row["features"]) for row in features.collect()} == set(
        map(tuple, MATRIX.tolist())
    )
    assert pomona.spark.provenance(features)["fingerprint"] == "a" * 64
    everything = pomona.spark.read_features(spark, folder, ok_only=False)
    assert everything.where("status <> 'ok'").collect()[0]["error"] == "drawn as empty"


@pytest.mark.spark
def test_spark_reads_a_local_table_for_any_name_and_default_file_system(
    spark: SparkSession, tmp_path: Path
) -> None:
    folder = tmp_path / "set [1] {a,b}*"
    tables.write(folder, MATRIX, LABELS)
    elsewhere = spark.newSession()
    elsewhere.conf.set("fs.defaultFS", "hdfs://nowhere.invalid:1")
    assert pomona.spark.read_features(elsewhere, folder).count() == len(MATRIX)


@pytest.mark.spark
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_spark_refuses_two_encoders_on_any_file_system(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    folder = tmp_path / "a b"
    tables.write(folder, MATRIX, LABELS, fingerprint="a" * 64)
    tables.write(folder, MATRIX, LABELS, fingerprint="b" * 64)
    monkeypatch.setattr("pomona.spark.table_reader.is_remote", lambda _: bool(scheme))
    with pytest.raises(TableError, match="mixes rows of two encoders"):
        pomona.spark.read_features(spark, f"{scheme}{folder}")


def test_iter_features_yields_the_rows_of_read_features_in_batches(folder: Path) -> None:
    whole = pomona.read_features(folder)
    batches = list(pomona.iter_features(folder, 4))
    assert [len(batch) for batch in batches] == [4, 4, 1]
    assert (np.concatenate([batch.vectors for batch in batches]) == whole.vectors).all()
    assert [path for batch in batches for path in batch.paths.to_pylist()] == list(whole.paths)
    with pytest.raises(UsageError, match="batch_size is 0: give a number of rows, 1 or more"):
        pomona.iter_features(folder, 0)
