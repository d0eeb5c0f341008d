"""Spark reads files of any name, although its own reader drops names that begin with `_` or `.`."""

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
from pomona.spark import named_files
from pomona.spark.binary_files import read_images
from pomona.spark.driver_fallback import DriverFallback
from pomona.spark.named_files import read_named

pytestmark = pytest.mark.spark

NAMES = [
    *(
        "_DSC0001.JPG",
        ".hidden.jpg",
        "_x=1.jpg",
        "plain.jpg",
        "a.jpg._COPYING_",
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


def test_both_readers_read_every_name_as_spark_reads_a_plain_one(
    spark: SparkSession, files: list[ImageFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = ImageFile(f"{files[0].path}.gone", 10, 10)
    by_list = contents(read_named(spark, [*files, gone], {"ignoreMissingFiles": "true"}, 2))
    assert {path: bytes(row[2]) for path, row in by_list.items()} == {
        file.uri: Path(file.path).read_bytes() for file in files
    }
    plain = spark.read.format("binaryFile").load(files[3].uri)
    assert by_list[files[3].uri] == contents(plain)[files[3].uri]
    session = spark.newSession()
    assert contents(read_images(session, files, 2)) == by_list
    monkeypatch.setattr(named_files, "_list_of_files", lambda _: None)
    opened = read_named(spark, [*files, gone], {}, 3)
    assert contents(opened) == by_list


def test_many_files_are_packed_into_tasks(spark: SparkSession, files: list[ImageFile]) -> None:
    few = [file for file in files if Path(file.path).name.startswith("_")]
    session = spark.newSession()
    session.conf.set("spark.sql.files.maxPartitionBytes", "20000")
    session.conf.set("spark.sql.files.openCostInBytes", "1000")
    tasks = read_named(session, few, {}, 1).rdd.getNumPartitions()
    assert 1 < tasks <= len(few) * 3


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
    monkeypatch.setattr(named_files, "_list_of_files", lambda _: None)
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
