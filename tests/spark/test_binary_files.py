"""Spark reads files of Hadoop file systems, even if their names begin with `_` or `.`."""

from __future__ import annotations

from pathlib import Path

import pytest

import drawn
import tables

pytest.importorskip("pyspark", reason="the Spark engine needs PySpark")

from pyspark.sql import DataFrame, SparkSession

import pomona
from pomona.encoder.encoder import Encoder
from pomona.source.image_file import ImageFile, look_at
from pomona.spark import binary_files
from pomona.spark.binary_files import read_images, read_settings
from pomona.spark.driver_fallback import DriverFallback

pytestmark = pytest.mark.spark

NAMES = [
    *(
        "_DSC0001.JPG",
        ".hidden.jpg",
        "_x=1.jpg",
        "plain.jpg",
        "a.jpg._COPYING_",
        "{a,b} [1]*?.jpg",
        "_{a,b} [1]*?.jpg",
    ),
    *("_été 50% #1.jpg", "_new\nline\\n.jpg"),
]


@pytest.fixture
def files(tmp_path: Path) -> list[ImageFile]:
    for number, name in enumerate(NAMES):
        (tmp_path / name).write_bytes(name.encode() * 1000 * (number + 1))
    return [look_at(str(tmp_path / name)) for name in NAMES]


def contents(images: DataFrame) -> dict[str, tuple[object, ...]]:
    rows = images.collect()
    result = {row["path"]: (row["length"], row["modificationTime"], row["content"]) for row in rows}
    assert len(result) == len(rows)
    return result


def test_files_of_every_name_are_read_as_spark_reads_a_plain_one(
    spark: SparkSession, files: list[ImageFile]
) -> None:
    gone = ImageFile(f"{files[0].path}.gone", 10, 10)
    read = contents(read_images(spark.newSession(), [*files, gone], 2))
    assert {path: bytes(row[2]) for path, row in read.items()} == {
        file.uri: Path(file.path).read_bytes() for file in files
    }
    plain = spark.read.format("binaryFile").load(files[3].uri)
    assert read[files[3].uri] == contents(plain)[files[3].uri]


def test_without_a_compiler_spark_looks_at_each_path(
    spark: SparkSession, files: list[ImageFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = [file for file in files if file.has_name_for_spark]
    by_us = contents(read_images(spark.newSession(), seen, 2))
    monkeypatch.setattr(binary_files, "_list_of_files", lambda _: None)
    assert contents(read_images(spark.newSession(), seen, 2)) == by_us
    assert len(by_us) == 2


def test_many_files_are_packed_into_tasks(
    spark: SparkSession, files: list[ImageFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pomona.spark.file_shares._SMALLEST_TASK", 2)
    assert 1 < read_images(spark.newSession(), files, 2).rdd.getNumPartitions() <= len(files)


def test_camera_names_are_read_by_tasks_and_not_by_the_driver(
    spark: SparkSession,
    encoder: Encoder,
    tmp_path: Path,
    remote: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw(tmp_path / "cameras")
    monkeypatch.delattr(DriverFallback, "do")  # the driver must not read what Spark did not
    pomona.extract(
        tmp_path / "cameras",
        tmp_path / "here",
        encoder=encoder,
        engine=pomona.LocalEngine(workers=1),
    )
    near = pomona.extract(
        tmp_path / "cameras",
        tmp_path / "near",
        encoder=encoder,
        engine=pomona.SparkEngine(spark=spark),
    )
    far = pomona.extract(
        f"{remote}/cameras",
        tmp_path / "far",
        encoder=encoder,
        engine=pomona.SparkEngine(spark=spark),
    )
    assert near.ok == far.ok == 6
    rows = tables.read(tmp_path / "here")
    assert tables.read(tmp_path / "near").equals(rows)
    for name in ("label", "features", "status", "size", "modified", "content_sha256"):
        assert tables.read(tmp_path / "far")[name].equals(rows[name]), name


def test_without_a_compiler_the_driver_reads_files_of_other_file_systems(
    spark: SparkSession,
    encoder: Encoder,
    tmp_path: Path,
    remote: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw(tmp_path / "cameras")
    monkeypatch.setattr(binary_files, "_list_of_files", lambda _: None)
    far = pomona.extract(
        f"{remote}/cameras",
        tmp_path / "far",
        encoder=encoder,
        engine=pomona.SparkEngine(spark=spark),
    )
    assert far.ok == len(tables.rows(tmp_path / "far")) == 6


@pytest.mark.long
def test_spark_connect_workers_open_camera_names(
    connect: SparkSession, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "cameras")
    monkeypatch.delattr(DriverFallback, "do")
    pomona.extract(
        tmp_path / "cameras",
        tmp_path / "here",
        encoder=encoder,
        engine=pomona.LocalEngine(workers=1),
    )
    pomona.extract(
        tmp_path / "cameras",
        tmp_path / "there",
        encoder=encoder,
        engine=pomona.SparkEngine(spark=connect),
    )
    assert tables.read(tmp_path / "there").equals(tables.read(tmp_path / "here"))


def draw(folder: Path) -> None:
    for number in range(6):
        path = folder / ("_export" if number % 2 else "x") / f"{'_' * (number < 5)}DSC{number}.JPG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(drawn.encode(drawn.picture(20, 20, number), "JPEG"))


@pytest.mark.parametrize(("size", "rows"), [(40 * 2**20, 1), (10 * 2**20, 1), (5000, 256)])
def test_batches_of_images_are_bounded_in_bytes(size: int, rows: int) -> None:
    files = [ImageFile(f"/photos/{number}.jpg", size, 0) for number in range(50)]
    settings = read_settings(files, cores=2)
    assert settings["spark.sql.execution.arrow.maxRecordsPerBatch"] == rows


def test_small_images_are_packed_into_a_few_tasks_per_core() -> None:
    files = [ImageFile(f"/photos/{number}.jpg", 5000, 0) for number in range(8000)]
    settings = read_settings(files, cores=2)
    weight = 8000 * (5000 + int(str(settings["spark.sql.files.openCostInBytes"])))
    assert 7 <= weight / int(str(settings["spark.sql.files.maxPartitionBytes"])) <= 8


def test_a_few_large_photos_are_distributed_over_tasks_too() -> None:
    files = [ImageFile(f"/photos/{number}.jpg", 40 * 2**20, 0) for number in range(50)]
    settings = read_settings(files, cores=2)
    assert 2 <= int(str(settings["spark.sql.files.maxPartitionBytes"])) // (40 * 2**20) <= 7
