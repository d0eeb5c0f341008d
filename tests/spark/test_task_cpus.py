"""A Spark task with several cores computes that many images at the same time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import pomona
import tables
from pomona.encoder.encoder import Encoder
from pomona.runtime.registry import SideBySide, runtime_for

if TYPE_CHECKING:
    from pathlib import Path


def test_concurrent_copies_give_bit_identical_vectors(encoder: Encoder) -> None:
    spec = encoder.preprocessing
    images = np.random.default_rng(0).integers(0, 256, (9, spec.height, spec.width, 3), np.uint8)
    one, both = (np.empty((9, encoder.dimension), np.float32) for _ in range(2))
    runtime_for(encoder).predict(images, one)
    SideBySide([runtime_for(encoder), runtime_for(encoder)]).predict(images, both)
    np.testing.assert_array_equal(one, both)


class Meeting:
    """A network that finishes no image before another copy has started one."""

    batch_size, preprocessing, dimension = 1, None, 1

    def __init__(self, barrier: threading.Barrier) -> None:
        self._barrier: threading.Barrier | None = barrier

    def predict(self, images: Any, features: Any) -> None:
        if self._barrier:
            self._barrier.wait(60)
            self._barrier = None
        features[:] = images[0, 0]


def test_copies_run_concurrently_and_errors_propagate() -> None:
    barrier = threading.Barrier(3)
    copies: list[Any] = [Meeting(barrier) for _ in range(3)]
    runtime = SideBySide(copies)
    features = np.zeros((30, 1), np.float32)
    runtime.predict(np.arange(30, dtype=np.uint8).reshape(30, 1), features)
    assert features[:, 0].tolist() == list(range(30))
    for copy in copies:
        copy.predict = None
    with pytest.raises(TypeError, match="not callable"):
        runtime.predict(np.zeros((30, 1), np.uint8), features)


PROGRAM = """
import sys
import pyarrow as pa
from pyspark.sql import SparkSession
import pomona
from pomona.spark.encoder_transport import task_cpus

encoder, pictures, table = sys.argv[1:]
java = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
builder = SparkSession.builder.master("local[2]").config("spark.task.cpus", "2")
spark = builder.config("spark.driver.extraJavaOptions", java).getOrCreate()

def cpus(batches):
    for batch in batches:
        yield pa.RecordBatch.from_pydict({"cpus": [task_cpus()] * batch.num_rows})

print(spark.range(1, numPartitions=1).mapInArrow(cpus, "cpus bigint").first()["cpus"])
print(pomona.extract(pictures, table, encoder=encoder, engine=pomona.SparkEngine(spark=spark)).ok)
images = spark.read.format("binaryFile").option("recursiveFileLookup", True).load(pictures)
features = pomona.featurize_udf(encoder)
same = spark.read.parquet(table).selectExpr("path", "features as wanted")
rows = images.select("path", features("content").alias("f")).join(same, "path")
print(rows.where("f <=> wanted").count() == rows.count() > 10)
"""


@pytest.mark.long
@pytest.mark.spark
def test_a_task_with_two_cores_gives_the_same_rows(
    encoder_file: Path, pictures: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pyspark", reason="Spark needs PySpark")
    if shutil.which("java") is None:
        pytest.skip("no Java on this machine")
    completed = subprocess.run(
        [sys.executable, "-c", PROGRAM, encoder_file, pictures, tmp_path / "far"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYSPARK_PYTHON": sys.executable},
    )
    assert (completed.stdout.split(), completed.returncode) == (["2", "11", "True"], 0), (
        completed.stderr
    )
    pomona.extract(
        pictures, tmp_path / "near", encoder=encoder_file, engine=pomona.LocalEngine(workers=1)
    )
    assert tables.read(tmp_path / "far").equals(tables.read(tmp_path / "near"))
