"""Spark Connect, tested against PySpark's own server in a separate process."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import drawn
import tables

pytest.importorskip("pyspark", reason="the Spark engine needs PySpark")

import pomona
from pomona.encoder.encoder import Encoder
from pomona.errors import EngineError, RunError, SourceError, TableError
from pomona.progress import Snapshot
from pomona.schema import FEATURE_SCHEMA
from pomona.spark import file_shares
from pomona.spark.session.session import check_spark
from pomona.spark.storage.choose import LocalImageStore
from pomona.table import part_file

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.spark


def test_spark_connect_gives_the_rows_of_the_embedded_engine(
    connect: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    here = pomona.extract(
        pictures, tmp_path / "here", encoder=encoder, engine=pomona.LocalEngine(workers=1)
    )
    there = pomona.extract(
        pictures, tmp_path / "there", encoder=encoder, engine=pomona.SparkEngine(spark=connect)
    )
    ours, theirs = tables.read(tmp_path / "here"), tables.read(tmp_path / "there")
    for name in FEATURE_SCHEMA.names:
        assert ours[name].equals(theirs[name]), name
    assert ours.num_rows == 14
    assert (here.ok, here.failed, here.by_status) == (there.ok, there.failed, there.by_status)
    provenance = pomona.FeatureTable(tmp_path / "there").provenance()
    assert provenance == pomona.FeatureTable(tmp_path / "here").provenance()


def test_glob_characters_are_literal_in_names(
    connect: SparkSession, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a*.png", "ab.png", "a?.png", "[a].png", "{a,b}.png", "a\\b.png"):
        (tmp_path / name).write_bytes(drawn.encode(drawn.picture(), "PNG"))
    monkeypatch.delattr(LocalImageStore, "read")  # the driver must not read what Spark did not
    summary = pomona.extract(
        tmp_path, tmp_path / "t", encoder=encoder, engine=pomona.SparkEngine(spark=connect)
    )
    assert summary.ok == summary.files == 6


def test_a_table_is_continued_over_spark_connect(
    connect: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    pomona.extract(pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1))
    (pictures / "new.png").write_bytes(drawn.encode(drawn.picture(), "PNG"))
    summary = pomona.extract(
        pictures, tmp_path / "t", encoder=encoder, engine=pomona.SparkEngine(spark=connect)
    )
    assert (summary.ok, summary.skipped, len(tables.rows(tmp_path / "t"))) == (1, 14, 15)


def test_each_worker_process_loads_the_model_once_over_many_tasks_and_two_jobs(
    connect: SparkSession,
    encoder: Encoder,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class ByProcess:  # not importable on the workers, so its code is shipped
        def __call__(self, _path: str) -> str:
            return str(os.getpid())

    monkeypatch.setattr("pomona.source.label_rule.parse_label_rule", lambda _: ByProcess())
    monkeypatch.setattr(file_shares, "_TASKS_PER_CORE", 15)
    monkeypatch.setattr(file_shares, "_SMALLEST_TASK", 4)
    monkeypatch.setattr(part_file, "_SMALL_PARTS", 1000)  # one part file per task
    for seed in range(120):
        (pictures / f"{seed}.png").write_bytes(drawn.encode(drawn.picture(9, 9, seed), "PNG"))
    fresh = dataclasses.replace(encoder, weights_sha256=uuid.uuid4().hex * 2)
    first = pomona.extract(
        pictures, tmp_path / "a", encoder=fresh, engine=pomona.SparkEngine(spark=connect)
    )
    second = pomona.extract(
        pictures, tmp_path / "b", encoder=fresh, engine=pomona.SparkEngine(spark=connect)
    )
    processes = {row["label"] for name in "ab" for row in tables.rows(tmp_path / name).values()} - {
        str(os.getpid())
    }
    assert len(list(pomona.FeatureTable(tmp_path / "a").parts())) >= 20
    assert first.model_loads + second.model_loads == len(processes)


def test_the_callers_session_keeps_its_settings(
    connect: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    connect.conf.set("spark.sql.files.openCostInBytes", "12345")
    before = connect.conf.getAll
    pomona.extract(
        pictures, tmp_path / "t", encoder=encoder, engine=pomona.SparkEngine(spark=connect)
    )
    assert connect.conf.getAll == before
    assert connect.range(3).count() == 3


def test_progress_ends_at_the_total(
    connect: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    snapshots: list[Snapshot] = []
    pomona.extract(
        pictures,
        tmp_path / "t",
        encoder=encoder,
        progress=snapshots.append,
        engine=pomona.SparkEngine(spark=connect),
    )
    assert snapshots[-1] == Snapshot("extracting", done=14, total=14, failed=3)
    assert all(0 <= snapshot.done <= 14 for snapshot in snapshots)


def test_a_stopped_run_leaves_the_session_idle_and_can_be_continued(
    connect: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    def stop(snapshot: Snapshot) -> None:
        if snapshot.total is not None:  # all files are listed, and a query runs
            raise KeyboardInterrupt

    before = connect.conf.getAll
    with pytest.raises(KeyboardInterrupt):
        pomona.extract(
            pictures,
            tmp_path / "t",
            encoder=encoder,
            progress=stop,
            engine=pomona.SparkEngine(spark=connect),
        )
    assert connect.conf.getAll == before
    assert connect.getTags() == set()
    pomona.extract(
        pictures, tmp_path / "t", encoder=encoder, engine=pomona.SparkEngine(spark=connect)
    )
    assert len(tables.rows(tmp_path / "t")) == 14


def test_featurize_takes_a_spark_connect_dataframe(
    connect: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    pomona.extract(pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1))
    expected = tables.rows(tmp_path / "t")
    images = connect.read.format("binaryFile").load(f"{pictures}/Apple Red 1")
    featurized = pomona.featurize(images, encoder, path_column="PATH", keep=["length"])
    assert featurized.columns == [*FEATURE_SCHEMA.names, "encoder", "length"]
    rows = featurized.collect()
    assert len(rows) == 5
    assert all(row["length"] == row["size"] for row in rows)
    other = dataclasses.replace(encoder, weights_sha256="0" * 64)
    with pytest.raises(EngineError, match="needs a column 'bytes'"):
        pomona.featurize(images, encoder, image_column="bytes")
    featurized.drop("length").union(pomona.featurize(images, other)).write.parquet(
        str(tmp_path / "u")
    )
    with pytest.raises(TableError, match="mixes rows of two encoders"):
        pomona.spark.read_features(connect, connect.read.parquet(str(tmp_path / "u")))
    for row in rows:
        assert row["features"] == expected[row["path"].rpartition("/")[2]]["features"]


def test_a_stream_over_spark_connect_needs_an_encoder_that_workers_read(
    connect: SparkSession, encoder: Encoder, encoder_file: Path, pictures: Path, tmp_path: Path
) -> None:
    from pyspark.errors import StreamingQueryException

    source = pictures / "Apple Red 1"
    images = (
        connect.readStream.format("binaryFile")
        .schema("path string, modificationTime timestamp, length long, content binary")
        .load(str(source))
    )

    def run(rows: DataFrame) -> None:
        writer = rows.writeStream.option("checkpointLocation", str(tmp_path / "checkpoint"))
        query = writer.trigger(availableNow=True).start(str(tmp_path / "sink"), format="parquet")
        query.awaitTermination(120)

    with pytest.raises(StreamingQueryException, match="give that path with `delivery` file"):
        run(pomona.featurize(images, encoder))
    run(pomona.featurize(images, encoder_file, delivery="file"))
    pomona.extract(source, tmp_path / "here", encoder=encoder, engine=pomona.LocalEngine(workers=1))
    ours, theirs = (tables.read(tmp_path / name) for name in ("here", "sink"))
    assert ours.drop_columns("label").equals(theirs.drop_columns("label"))


def test_spark_connect_workers_read_the_encoder_file(
    connect: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    file = tmp_path / "fruit.encoder"
    dataclasses.replace(encoder, weights_sha256=uuid.uuid4().hex * 2).save(file)
    images = connect.read.format("binaryFile").load(f"{pictures}/Apple Red 1")
    rows = pomona.featurize(images, file, delivery="file")
    file.unlink()
    from pyspark.errors import PySparkException

    with pytest.raises(PySparkException, match="a worker on .* cannot read the encoder"):
        rows.collect()


def test_an_error_on_a_worker_is_reported_in_one_line(
    connect: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    wrong = dataclasses.replace(encoder, weights_sha256=uuid.uuid4().hex * 2, graph=b"<net/>")
    with pytest.raises(RunError) as caught:
        pomona.extract(
            pictures, tmp_path / "t", encoder=wrong, engine=pomona.SparkEngine(spark=connect)
        )
    assert len(str(caught.value).splitlines()) == 1
    assert "Traceback" not in str(caught.value)


def test_storage_that_only_the_server_can_reach_is_refused(
    connect: SparkSession, encoder: Encoder, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match="s3a://bucket/photos cannot be listed over Spark Conn"):
        pomona.extract(
            "s3a://bucket/photos",
            tmp_path / "t",
            encoder=encoder,
            engine=pomona.SparkEngine(spark=connect),
        )


@pytest.mark.parametrize("place", ["", "/label=apple"])
@pytest.mark.parametrize(
    ("marker", "system"),
    [
        ("_delta_log/00000000000000000000.json", "a Delta table"),
        (".hoodie/hoodie.properties", "a Hudi table"),
        ("metadata/v1.metadata.json", "an Iceberg table"),
        ("metadata/00000-6bd.gz.metadata.json", "an Iceberg table"),
    ],
)
def test_a_table_of_another_system_is_refused_by_its_name_locally_and_on_the_server(
    connect: SparkSession, tmp_path: Path, place: str, marker: str, system: str
) -> None:
    log = tmp_path / "t" / marker
    log.parent.mkdir(parents=True)
    log.write_text("{}")
    tables.write(tmp_path / f"t{place}", [[1.0, 2.0]], ["apple"])
    for root in (str(tmp_path), f"file:{tmp_path}", f"viewfs://far/root{tmp_path}"):
        with pytest.raises(TableError, match=f"{system}.*read_features"):
            pomona.spark.read_features(connect, f"{root}/t{place}")


def test_plain_tables_and_complete_streaming_sinks_are_read_on_the_server(
    connect: SparkSession, tmp_path: Path
) -> None:
    vectors = [[float(number), 1.0] for number in range(5)]
    flat = tables.write(tmp_path / "flat", vectors, list("abcab"), parts=3)
    (tmp_path / "metadata").mkdir()  # some other folder of the bucket
    (tmp_path / "metadata" / "notes.json").write_text("{}")
    rows = connect.read.parquet(str(flat))
    rows.write.partitionBy("label").parquet(str(tmp_path / "partitioned"))
    stream = (
        connect.readStream.schema(rows.schema)
        .parquet(str(flat))
        .writeStream.partitionBy("label")
        .option("checkpointLocation", str(tmp_path / "checkpoint"))
        .trigger(availableNow=True)
        .start(str(tmp_path / "sink"), format="parquet")
    )
    stream.awaitTermination(120)
    lost = next((tmp_path / "sink").glob("label=a/*.parquet"))
    lost.with_name("part-lost.parquet").write_bytes(lost.read_bytes())  # no batch lists it
    far = f"viewfs://far/root{tmp_path}"
    for name in ("flat", "partitioned", "sink"):
        assert pomona.spark.read_features(connect, f"{far}/{name}").count() == 5, name
    assert pomona.spark.read_features(connect, f"{far}/partitioned/label=a").count() == 2
    with pytest.raises(TableError, match="the sink of a streaming query.*give viewfs:.* as TABLE"):
        pomona.spark.read_features(connect, f"{far}/sink/label=a")


def test_a_table_that_the_server_cannot_reach_is_reported_in_one_line(
    connect: SparkSession,
) -> None:
    with pytest.raises(
        TableError, match=r"Spark cannot read s3://b/t: .*; write s3a:// in"
    ) as caught:
        pomona.spark.read_features(connect, "s3://b/t")
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(TableError, match=r"Spark cannot read viewfs://far/root/no/table: .*"):
        pomona.spark.read_features(connect, "viewfs://far/root/no/table")


def test_a_master_is_refused_while_a_spark_connect_session_is_active(
    connect: SparkSession,
    encoder: Encoder,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("pomona.extraction", "pomona.spark.session.session"):  # other tests start Spark
        monkeypatch.setattr(f"{module}.active_session", lambda: connect)
    with pytest.raises(EngineError, match="a Spark Connect session is active here: leave master"):
        pomona.extract(
            pictures,
            tmp_path / "t",
            encoder=encoder,
            engine=pomona.SparkEngine(master="local[2]"),
        )


def test_an_active_spark_connect_session_needs_no_java(
    connect: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr("pomona.spark.session.session.active_session", lambda: None)
    with pytest.raises(EngineError, match="needs Java"):
        check_spark(None, None)
    monkeypatch.setattr("pomona.spark.session.session.active_session", lambda: connect)
    check_spark(None, None)


PROGRAM = """
import sys
import threading
from pyspark.sql import SparkSession
import pomona
from pomona.table import part_file

address, encoder, pictures, table = sys.argv[1:]
spark = SparkSession.builder.remote(address).getOrCreate()
images = spark.read.format("binaryFile").load(pictures + "/Apple Red 1")
made = []  # in another thread, which has no active session of its own
thread = threading.Thread(target=lambda: made.append(pomona.featurize_udf(encoder)))
thread.start()
thread.join()
(features,) = made
(row,) = images.where("path like '%image 3.jpg'").select(features("content").alias("f")).collect()
spark.udf.register("featurize", features)
images.createOrReplaceTempView("images")
rows = spark.sql("select featurize(content) as f from images where path like '%image 3.jpg'")
assert rows.collect() == [row]
summary = pomona.extract(pictures, table, encoder=encoder, engine=pomona.SparkEngine())
print(len(row["f"]), summary.ok)
spark.stop()
"""


def test_a_program_with_only_the_spark_connect_client_works(
    connect_server: str, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    encoder.save(tmp_path / "fruit.encoder")
    completed = subprocess.run(
        [
            sys.executable,
            *("-c", PROGRAM, connect_server, tmp_path / "fruit.encoder", pictures, tmp_path / "t"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (completed.stdout, completed.returncode) == ("1280 11\n", 0), completed.stderr


def test_the_command_line_accepts_a_server_address_as_master(
    connect_server: str, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    encoder.save(tmp_path / "fruit.encoder")
    completed = subprocess.run(
        [
            *(sys.executable, "-m", "pomona", "extract", pictures, tmp_path / "t", "--json"),
            *("--encoder", tmp_path / "fruit.encoder", "--master", connect_server),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert '"ok": 11' in completed.stdout, completed.stderr


def test_an_address_without_a_server_is_reported_in_one_line(
    encoder: Encoder, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("grpc", reason="Spark Connect needs gRPC: pip install '.[connect]'")
    monkeypatch.setattr("pomona.spark.session.session.active_session", lambda: None)
    monkeypatch.setattr("pomona.spark.session.connect._CONNECT_WITHIN_S", 0.5)
    with pytest.raises(EngineError, match="no Spark Connect server answers at sc://127.0.0.1:9 w"):
        pomona.extract(
            pictures,
            tmp_path / "t",
            encoder=encoder,
            engine=pomona.SparkEngine(master="sc://127.0.0.1:9/;token=secret"),
        )
    assert not (tmp_path / "t").exists()
