"""The main job on real images with real weights, on both engines, if the data is available."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import pomona
import tables
from pomona.analysis.inspection import inspect
from pomona.building.build import build_encoder
from pomona.encoder.encoder import Encoder

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="module")
def imagenet(shared_data: Path) -> Encoder:
    weights = shared_data / "weights" / "mobilenet_v2_imagenet_notop.weights.h5"
    return build_encoder("mobilenet_v2", str(weights))


@pytest.fixture(scope="module")
def odd(shared_data: Path, imagenet: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = tmp_path_factory.mktemp("odd") / "t"
    summary = pomona.extract(
        shared_data / "odd",
        table,
        encoder=imagenet,
        globs=["*"],
        engine=pomona.LocalEngine(workers=1),
    )
    assert summary.files == 469
    return table


def test_every_odd_image_has_a_row_and_every_failure_a_reason(odd: Path) -> None:
    rows = tables.read(odd).to_pylist()
    assert len(rows) == 469
    assert all(row["error"] for row in rows if row["status"] != "ok")
    assert all(not row["error"] for row in rows if row["status"] == "ok")
    assert Counter(row["status"] for row in rows)["ok"] > 380
    assert inspect(pomona.FeatureTable(odd)).check.passed


def test_the_eight_orientations_of_one_photo_have_similar_vectors(odd: Path) -> None:
    rows = [r for r in tables.read(odd).to_pylist() if "/exif-orientation/" in r["path"]]
    vectors = np.array([row["features"] for row in rows])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert len(rows) == 8
    assert (vectors @ vectors.T).min() > 0.9


@pytest.mark.spark
def test_spark_gives_the_same_rows_for_the_odd_images(
    spark: SparkSession, odd: Path, shared_data: Path, imagenet: Encoder, tmp_path: Path
) -> None:
    pomona.extract(
        shared_data / "odd",
        tmp_path / "t",
        encoder=imagenet,
        globs=["*"],
        engine=pomona.SparkEngine(spark=spark),
    )
    assert tables.read(tmp_path / "t").equals(tables.read(odd))


def test_every_fruit_has_a_row_including_the_empty_file(
    shared_data: Path, imagenet: Encoder, tmp_path: Path
) -> None:
    source = shared_data / "fruits" / "Testing"
    pomona.extract(source, tmp_path / "t", encoder=imagenet, engine=pomona.LocalEngine(workers=1))
    quinces = shared_data / "fruits" / "Training" / "Quince"
    summary = pomona.extract(
        quinces, tmp_path / "t", encoder=imagenet, engine=pomona.LocalEngine(workers=1)
    )
    assert summary.by_status == {"ok": 489, "empty": 1}
    golden = np.load(shared_data / "golden" / "fruits_mobilenet_v2_imagenet.npz")
    features = {row["path"]: row["features"] for row in tables.read(tmp_path / "t").to_pylist()}
    compared = 0
    for path, expected in zip(golden["path"], golden["features"], strict=True):
        vector = features.get(f"file:{shared_data}/fruits/{path}")
        if vector is not None:
            assert np.abs(np.array(vector) - expected).max() < 1e-4
            compared += 1
    assert compared > 20
