"""How encoders reach Spark workers, and how often workers load them."""

from __future__ import annotations

import dataclasses
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import drawn
import object_store
import tables

pytest.importorskip("pyspark", reason="the Spark engine needs PySpark")

from pyspark.sql import SparkSession

import pomona
from pomona.encoder.encoder import Encoder
from pomona.errors import EncoderError, RunError
from pomona.spark import file_shares
from pomona.spark.encoder_transport import encoder_handle
from pomona.table import part_file
from text_towers import encoder_in

pytestmark = pytest.mark.spark

FILE = "/bucket/fruit.encoder"


@pytest.fixture
def store() -> Iterator[object_store.ObjectStore]:
    with object_store.serving() as store:
        yield store


@pytest.fixture
def fresh(encoder: Encoder) -> Encoder:
    """An encoder that no worker has loaded yet."""
    return dataclasses.replace(encoder, weights_sha256=uuid.uuid4().hex * 2)


@pytest.fixture
def uri(store: object_store.ObjectStore, fresh: Encoder) -> str:
    """The location of that encoder's file."""
    store.objects[FILE] = fresh.to_bytes()
    return store.uri(FILE)


@pytest.fixture
def many_tasks(monkeypatch: pytest.MonkeyPatch, pictures: Path) -> Path:
    """Enough pictures for ten small tasks per worker."""
    monkeypatch.setattr(file_shares, "_TASKS_PER_CORE", 15)
    monkeypatch.setattr(file_shares, "_SMALLEST_TASK", 4)
    monkeypatch.setattr(part_file, "_SMALL_PARTS", 1000)  # one part file per task
    for seed in range(120):
        (pictures / f"{seed}.png").write_bytes(drawn.encode(drawn.picture(9, 9, seed), "PNG"))
    return pictures


@pytest.fixture
def labelled_by_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Label each image with the id of the process that computed it."""

    class ByProcess:  # not importable on the workers, so its code is shipped
        def __call__(self, _path: str) -> str:
            return str(os.getpid())

    monkeypatch.setattr("pomona.source.label_rule.parse_label_rule", lambda _: ByProcess())


def processes(*folders: Path) -> set[str]:
    """The ids of the worker processes that computed the images of these tables."""
    labels = {row["label"] for folder in folders for row in tables.rows(folder).values()}
    return labels - {str(os.getpid())}


@pytest.mark.usefixtures("labelled_by_process")
def test_each_worker_process_loads_the_model_once_over_many_tasks_and_two_jobs(
    spark: SparkSession, fresh: Encoder, many_tasks: Path, tmp_path: Path
) -> None:
    first = pomona.extract(
        many_tasks, tmp_path / "a", encoder=fresh, engine=pomona.SparkEngine(spark=spark)
    )
    second = pomona.extract(
        many_tasks, tmp_path / "b", encoder=fresh, engine=pomona.SparkEngine(spark=spark)
    )
    assert len(list(pomona.FeatureTable(tmp_path / "a").parts())) >= 20
    assert first.ok == second.ok == 131
    assert first.model_loads == len(processes(tmp_path / "a"))
    both = processes(tmp_path / "a", tmp_path / "b")
    assert first.model_loads + second.model_loads == len(both)


@pytest.mark.usefixtures("labelled_by_process")
def test_each_worker_process_reads_the_encoders_file_once(
    store: object_store.ObjectStore, spark: SparkSession, uri: str, many_tasks: Path, tmp_path: Path
) -> None:
    summary = pomona.extract(
        many_tasks, tmp_path / "t", encoder=uri, engine=pomona.SparkEngine(spark=spark)
    )
    workers = len(processes(tmp_path / "t"))
    on_the_driver = 1
    assert summary.model_loads == workers
    assert store.opened[FILE] == workers + on_the_driver


def test_an_encoder_file_gives_the_rows_of_a_broadcast_encoder(
    spark: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    file = tmp_path / "fruit.encoder"
    dataclasses.replace(encoder, weights_sha256="1" * 64).save(file)
    pomona.extract(
        pictures, tmp_path / "sent", encoder=file, engine=pomona.SparkEngine(spark=spark)
    )
    pomona.extract(
        pictures,
        tmp_path / "read",
        encoder=file,
        engine=pomona.SparkEngine(delivery="file", spark=spark),
    )
    assert tables.read(tmp_path / "read").equals(tables.read(tmp_path / "sent"))


def test_a_worker_that_cannot_reach_the_file_ends_the_run_with_one_line(
    store: object_store.ObjectStore, spark: SparkSession, uri: str, pictures: Path, tmp_path: Path
) -> None:
    store.then[FILE] = None
    message = (
        "a worker on .* cannot read the encoder s3a://.*, or send it with `delivery` broadcast$"
    )
    with pytest.raises(RunError, match=message) as caught:
        pomona.extract(
            pictures, tmp_path / "t", encoder=uri, engine=pomona.SparkEngine(spark=spark)
        )
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "t").exists()


def test_a_file_replaced_after_the_driver_read_it_is_refused(
    store: object_store.ObjectStore, spark: SparkSession, uri: str, encoder: Encoder, pictures: Path
) -> None:
    store.then[FILE] = encoder.to_bytes()
    message = f"was replaced .*, a worker {encoder.fingerprint[:12]}; run it again"
    with pytest.raises(RunError, match=message):
        pomona.extract(
            pictures, pictures.parent / "t", encoder=uri, engine=pomona.SparkEngine(spark=spark)
        )


def test_featurize_and_the_udf_accept_an_encoder_location(
    spark: SparkSession, uri: str, pictures: Path
) -> None:
    images = spark.read.format("binaryFile").load(f"{pictures}/Apple Red 1/image 3.jpg")
    (row,) = pomona.featurize(images, uri).collect()
    (value,) = images.select(pomona.featurize_udf(uri, spark)("content").alias("f")).collect()
    assert row["features"] == value["f"]
    assert len(value["f"]) == 1280


def test_an_encoder_in_memory_cannot_be_sent_as_a_file(
    spark: SparkSession, encoder: Encoder
) -> None:
    with pytest.raises(EncoderError, match="needs an encoder's path or URI"):
        pomona.featurize_udf(encoder, spark, delivery="file")


def test_spark_sends_the_encoder_without_its_text_tower(spark: SparkSession) -> None:
    clip = encoder_in("clip")
    sent = encoder_handle(spark, clip, None).encoder()
    assert sent.text is None
    assert sent.fingerprint == clip.fingerprint
