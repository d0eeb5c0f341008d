from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import drawn
import tables

pytest.importorskip("pyspark", reason="the Spark engine needs PySpark")

from pyspark.sql import DataFrame, SparkSession

import pomona
from places import POISON
from pomona import extraction
from pomona.encoder.encoder import Encoder
from pomona.errors import EngineError, RunError, TableError
from pomona.progress import Snapshot
from pomona.schema import FEATURE_SCHEMA
from pomona.source.image_file import ImageFile
from pomona.spark import run as engine
from pomona.spark.encoder_transport import EncoderHandle
from pomona.spark.file_shares import share_files
from pomona.spark.storage.choose import LocalImageStore, LocalTableStore, Written
from pomona.spark.storage.hadoop.filesystem import HadoopImageStore
from pomona.table.feature_table import FeatureTable
from pomona.table.row_index import RowIndex

pytestmark = pytest.mark.spark


@pytest.fixture
def both(
    spark: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path
) -> tuple[Path, Path]:
    """The same pictures, extracted by each engine."""
    pomona.extract(
        pictures, tmp_path / "local", encoder=encoder, engine=pomona.LocalEngine(workers=2)
    )
    pomona.extract(
        pictures, tmp_path / "spark", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
    )
    return tmp_path / "local", tmp_path / "spark"


def test_both_engines_give_the_same_rows(both: tuple[Path, Path]) -> None:
    local, spark_made = map(tables.read, both)
    for name in FEATURE_SCHEMA.names:
        assert local[name].equals(spark_made[name]), name
    assert local.num_rows == 14


def test_files_too_large_for_spark_get_the_same_rows_from_the_driver(
    spark: SparkSession,
    encoder: Encoder,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pomona.extract(
        pictures, tmp_path / "local", encoder=encoder, engine=pomona.LocalEngine(workers=2)
    )
    sizes = sorted(path.stat().st_size for path in pictures.rglob("*.*"))
    monkeypatch.setattr("pomona.source.image_file._WORKER_FILE_BYTES", sizes[len(sizes) // 2])
    pomona.extract(
        pictures, tmp_path / "spark", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
    )
    assert tables.read(tmp_path / "local").equals(tables.read(tmp_path / "spark"))


def test_both_engines_write_the_same_columns_and_provenance(both: tuple[Path, Path]) -> None:
    local, spark_made = (pomona.FeatureTable(folder) for folder in both)
    assert local.provenance() == spark_made.provenance()
    for table in (local, spark_made):
        for part in table.parts():
            assert pq.read_schema(part).types == FEATURE_SCHEMA.types


def test_spark_reads_both_tables_with_their_provenance(
    spark: SparkSession, both: tuple[Path, Path], encoder: Encoder
) -> None:
    for folder in both:
        table = spark.read.parquet(str(folder))
        assert table.count() == 14
        metadata = table.schema["features"].metadata
        assert metadata["pomona.fingerprint"] == encoder.fingerprint
        assert table.where("status = 'ok' and size(features) = 1280").count() == 11


def test_each_engine_continues_a_table_of_the_other(
    spark: SparkSession, encoder: Encoder, pictures: Path, both: tuple[Path, Path]
) -> None:
    (pictures / "new.png").write_bytes(drawn.encode(drawn.picture(), "PNG"))
    by_spark = pomona.extract(
        pictures, both[0], encoder=encoder, engine=pomona.SparkEngine(spark=spark)
    )
    by_local = pomona.extract(
        pictures, both[1], encoder=encoder, engine=pomona.LocalEngine(workers=1)
    )
    assert (by_spark.ok, by_spark.skipped) == (by_local.ok, by_local.skipped) == (1, 14)
    assert tables.read(both[0]).equals(tables.read(both[1]))


def settings(spark: SparkSession) -> dict[str, str]:
    return {row["key"]: row["value"] for row in spark.sql("set").collect()}


@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize("changed_in_between", [False, True])
def test_a_plan_made_before_spark_started_is_executed_if_still_valid(
    changed_in_between: bool,
    encoder: Encoder,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = tmp_path / "t"
    pomona.extract(pictures, table, encoder=encoder, engine=pomona.LocalEngine(workers=1))
    for seed in (71, 72):
        (pictures / f"{seed}.png").write_bytes(drawn.encode(drawn.picture(20, 20, seed), "PNG"))
    indexed: list[str] = []
    index, session = FeatureTable.index, extraction.session

    def counted(self: FeatureTable) -> RowIndex:
        indexed.append(str(self))
        return index(self)

    def started(*args: Any) -> Any:
        if changed_in_between:
            pomona.extract(
                pictures,
                table,
                encoder=encoder,
                globs="71.png",
                engine=pomona.LocalEngine(workers=1),
            )
            indexed.clear()
        return session(*args)

    monkeypatch.setattr(FeatureTable, "index", counted)
    monkeypatch.setattr(extraction, "active_session", lambda: None)
    monkeypatch.setattr(extraction, "session", started)
    summary = pomona.extract(pictures, table, encoder=encoder, engine=pomona.SparkEngine())
    assert summary.changes.new == (1 if changed_in_between else 2)
    assert len(indexed) == 1
    fresh = tmp_path / "fresh"
    pomona.extract(pictures, fresh, encoder=encoder, engine=pomona.LocalEngine(workers=1))
    assert tables.read(table).equals(tables.read(fresh))


def test_the_callers_session_is_unchanged(
    spark: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    before = settings(spark)
    pomona.extract(
        pictures, tmp_path / "t", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
    )
    assert settings(spark) == before
    assert spark.range(3).count() == 3


def test_the_callers_settings_apply_and_its_session_stays_active(
    spark: SparkSession,
) -> None:
    from pomona.spark.session.session import session

    spark.conf.set("fs.test.secret", "known")
    with session(spark, None) as ours:
        assert ours.conf.get("fs.test.secret") == "known"
        ours.conf.set("fs.test.secret", "changed")
        ours.createDataFrame([(1,)], "x int").count()
    assert spark.conf.get("fs.test.secret") == "known"
    active = SparkSession.getActiveSession()
    assert active
    active.conf.set("fs.test.secret", "same session")
    assert spark.conf.get("fs.test.secret") == "same session"
    spark.conf.unset("fs.test.secret")


def test_a_session_of_another_thread_is_used_and_not_stopped(
    spark: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(1) as thread:
        summary = thread.submit(
            pomona.extract, pictures, tmp_path / "t", encoder=encoder, engine=pomona.SparkEngine()
        ).result()
    assert summary.ok == 11
    assert spark.range(3).count() == 3


def test_a_deleted_file_and_a_name_that_is_not_utf8_keep_their_rows(
    spark: SparkSession,
    encoder: Encoder,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = drawn.encode(drawn.picture(), "PNG")
    Path(os.fsdecode(os.fsencode(pictures) + b"/caf\xe9.png")).write_bytes(content)
    deleted_file = pictures / "Apple Red 1" / "image 3.jpg"
    real = LocalImageStore.for_workers

    def for_workers(self: LocalImageStore, files: Iterable[ImageFile]) -> list[ImageFile]:
        deleted_file.unlink(missing_ok=True)  # after it was listed
        return real(self, files)

    monkeypatch.setattr(LocalImageStore, "for_workers", for_workers)
    summary = pomona.extract(
        pictures, tmp_path / "t", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
    )
    rows = tables.rows(tmp_path / "t")
    assert rows["caf%E9.png"]["status"] == "ok"
    assert rows["image 3.jpg"]["error"] == "cannot be read: No such file or directory"
    assert (len(rows), summary.ok) == (15, 11)


def test_progress_ends_at_the_total(
    spark: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    snapshots: list[Snapshot] = []
    pomona.extract(
        pictures,
        tmp_path / "t",
        encoder=encoder,
        progress=snapshots.append,
        engine=pomona.SparkEngine(spark=spark),
    )
    assert snapshots[-1] == Snapshot("extracting", done=14, total=14, failed=3)


def test_a_file_that_spark_cannot_read_gets_a_row_with_the_reason(
    spark: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "gone.jpg").symlink_to(pictures / "nowhere.jpg")
    summary = pomona.extract(
        pictures, tmp_path / "t", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
    )
    row = tables.rows(tmp_path / "t")["gone.jpg"]
    assert summary.files == len(tables.rows(tmp_path / "t")) == 15
    assert (row["status"], row["error"]) == (
        "unreadable",
        "cannot be read: No such file or directory",
    )


def test_labels_follow_the_requested_rule(
    spark: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    rule = r"regex:image (\d)"
    pomona.extract(
        pictures,
        tmp_path / "t",
        encoder=encoder,
        label=rule,
        engine=pomona.SparkEngine(spark=spark),
    )
    rows = tables.rows(tmp_path / "t")
    assert rows["image 3.jpg"]["label"] == "3"
    assert rows["empty.jpg"]["label"] is None


def images(spark: SparkSession, pictures: Path) -> object:
    reader = spark.read.format("binaryFile").option("recursiveFileLookup", "true")
    return reader.option("pathGlobFilter", "*.[jp]*g").load(str(pictures))


def test_featurize_turns_a_dataframe_of_images_into_rows(
    spark: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    pomona.extract(pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1))
    expected = tables.rows(tmp_path / "t")
    featurized = pomona.featurize(images(spark, pictures), encoder, label="parent")
    assert featurized.columns == [*FEATURE_SCHEMA.names, "encoder"]
    rows = featurized.collect()
    assert len(rows) == 9  # without .webp, .JPG and the empty file, which binaryFile drops
    for row in rows:
        same = expected[row["path"].rpartition("/")[2]]
        assert [row[name] for name in ("path", "label", "features", "status", "size")] == [
            same[name] for name in ("path", "label", "features", "status", "size")
        ]


def test_featurize_without_a_content_column_says_what_it_needs(
    spark: SparkSession, encoder: Encoder
) -> None:
    with pytest.raises(EngineError, match="needs a column 'content' with the bytes.*has id"):
        pomona.featurize(spark.range(1), encoder)


def test_the_original_notebook_line_still_works(
    spark: SparkSession, encoder: Encoder, pictures: Path
) -> None:
    from pyspark.sql.functions import element_at, split

    frame = images(spark, pictures)
    frame = frame.withColumn("label", element_at(split(frame["path"], "/"), -2))
    featurize_udf = pomona.featurize_udf(encoder)
    rows = frame.select("path", "label", featurize_udf("content").alias("features")).collect()
    assert {row["label"] for row in rows} == {"Apple Red 1", "Poire d'été", "kind=bad"}
    lengths = {Path(row["path"]).name: row["features"] and len(row["features"]) for row in rows}
    assert lengths["image 3.jpg"] == 1280
    assert lengths["page.png"] is None


def test_the_udf_works_in_sql(spark: SparkSession, encoder: Encoder, pictures: Path) -> None:
    images(spark, pictures).createOrReplaceTempView("images")
    spark.udf.register("featurize", pomona.featurize_udf(encoder, spark))
    (row,) = spark.sql(
        "select size(featurize(content)) as size from images where path like '%image 3.jpg'"
    ).collect()
    assert row["size"] == 1280
    spark.catalog.dropTempView("images")


@pytest.mark.parametrize(
    ("column", "kind"),
    [("'a.png'", "str"), ("named_struct('bytes', content)", "struct"), ("array(1)", "ndarray")],
)
def test_the_udf_refuses_values_that_are_not_bytes(
    spark: SparkSession, encoder: Encoder, column: str, kind: str
) -> None:
    from pyspark.errors import PySparkException

    images = spark.sql("select X'00' as content").selectExpr(f"{column} as c")
    message = rf"featurize_udf takes the bytes of images \(binary\), got {kind}: for base64"
    with pytest.raises(PySparkException, match=message):
        images.select(pomona.featurize_udf(encoder, spark)("c")).collect()


@pytest.mark.usefixtures("spark")
def test_a_master_other_than_the_running_one_is_refused(
    encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match=re.escape("already running here on local[2]")):
        pomona.extract(
            pictures, tmp_path / "t", encoder=encoder, engine=pomona.SparkEngine(master="local[7]")
        )
    address = "sc://127.0.0.1/;token=secret"
    with pytest.raises(EngineError, match="leave master sc://127.0.0.1 out"):
        pomona.extract(
            pictures, tmp_path / "t", encoder=encoder, engine=pomona.SparkEngine(master=address)
        )


def test_a_table_of_another_encoder_is_refused(
    spark: SparkSession, encoder: Encoder, pictures: Path, both: tuple[Path, Path]
) -> None:
    import dataclasses

    other = dataclasses.replace(encoder, weights_sha256="0" * 64)
    with pytest.raises(TableError, match="made by another encoder"):
        pomona.extract(pictures, both[1], encoder=other, engine=pomona.SparkEngine(spark=spark))


def poison(pictures: Path, kind: str, size: tuple[int, int]) -> None:
    content = drawn.encode(drawn.picture(*size), "PNG")
    (pictures / "kind=bad" / f"{kind}.png").write_bytes(content)


@pytest.mark.long
def test_an_image_that_crashes_sparks_worker_fails_alone(
    encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    poison(pictures, "crashes", (20, 13))
    poison(pictures, "hangs", (20, 17))
    command = [sys.executable, "-m", "pomona", "extract", str(pictures), str(tmp_path / "t")]
    encoder.save(tmp_path / "e")
    more = ["--encoder", str(tmp_path / "e"), "--master", "local[2]", "--image-timeout", "3"]
    completed = subprocess.run(
        [*command, *more, "--json"],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(POISON), os.environ.get("PYTHONPATH", "")]),
        },
    )
    assert completed.returncode == 0, completed.stderr
    assert "a Python worker of Spark ended" in completed.stderr
    rows = tables.rows(tmp_path / "t")
    assert (rows["crashes.png"]["status"], rows["hangs.png"]["status"]) == ("crashed", "crashed")
    assert "SIGSEGV" in rows["crashes.png"]["error"]
    assert "took longer than 3 s" in rows["hangs.png"]["error"]
    assert rows["crashes.png"]["label"] == "kind=bad"
    for path in (tmp_path / "t", pictures / "kind=bad"):
        assert path.exists()
    (pictures / "kind=bad" / "crashes.png").unlink()
    (pictures / "kind=bad" / "hangs.png").unlink()
    pomona.extract(
        pictures, tmp_path / "near", encoder=encoder, engine=pomona.LocalEngine(workers=1)
    )
    others = [row for name, row in rows.items() if name not in {"crashes.png", "hangs.png"}]
    assert others == tables.read(tmp_path / "near").to_pylist()


def test_an_image_that_crashes_or_hangs_on_the_driver_gets_a_row(
    spark: SparkSession,
    encoder: Encoder,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The driver reads files that are too large for a worker, and must survive them."""
    monkeypatch.syspath_prepend(str(POISON))
    monkeypatch.setattr("pomona.source.image_file._WORKER_FILE_BYTES", 50_000)
    for name, height in (("crashes", 13), ("hangs", 17), ("good", 20)):
        content = drawn.encode(drawn.picture(20, height), "PNG") + bytes(50_000)
        (pictures / f"{name}.png").write_bytes(content)
    summary = pomona.extract(
        pictures,
        tmp_path / "t",
        encoder=encoder,
        engine=pomona.SparkEngine(spark=spark, image_timeout_s=3),
    )
    rows = tables.rows(tmp_path / "t")
    assert "SIGSEGV" in rows["crashes.png"]["error"]
    assert "took longer than 3 s" in rows["hangs.png"]["error"]
    assert rows["good.png"]["status"] == "ok"
    assert (summary.by_status["crashed"], summary.ok, len(rows)) == (2, 12, 17)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """120 pictures: more than the number of files that Spark may miss before a run fails."""
    folder = tmp_path / "many"
    folder.mkdir()
    for n in range(120):
        (folder / f"{n:03d}.png").write_bytes(drawn.encode(drawn.picture(8, 8, n), "PNG"))
    return folder


def test_any_number_of_files_deleted_after_the_listing_get_rows(
    spark: SparkSession,
    encoder: Encoder,
    many: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def share(*arguments: Any) -> DataFrame:
        for n in range(110):
            (many / f"{n:03d}.png").unlink(missing_ok=True)
        return share_files(*arguments)

    monkeypatch.setattr(engine, "share_files", share)
    summary = pomona.extract(
        many, tmp_path / "t", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
    )
    assert (summary.ok, summary.by_status["unreadable"], summary.files) == (10, 110, 120)
    errors = set(tables.read(tmp_path / "t")["error"].to_pylist())
    assert errors == {None, "cannot be read: No such file or directory"}


def test_spark_is_not_started_if_there_is_nothing_to_do(
    encoder: Encoder, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def session(*_: object) -> None:
        started.append(True)
        raise EngineError("of the test")

    monkeypatch.setattr(extraction, "active_session", lambda: None)
    monkeypatch.setattr(extraction, "session", session)
    on_spark = pomona.SparkEngine(master="local[2]")
    settings: dict[str, Any] = {"encoder": encoder, "engine": on_spark}
    planned = pomona.extract(pictures, tmp_path / "t", dry_run=True, **settings)
    assert (planned.changes.new, planned.dry_run) == (14, True)
    pomona.extract(pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1))
    rerun = pomona.extract(pictures, tmp_path / "t", **settings)
    assert (rerun.skipped, rerun.ok, rerun.dry_run, started) == (14, 0, False, [])
    (pictures / "Apple Red 1" / "image 1.png").unlink()
    assert pomona.extract(pictures, tmp_path / "t", **settings).changes.gone == 1
    for more in ({"prune": True}, {"retry_failed": True}, {"overwrite": True}):
        with pytest.raises(EngineError, match="of the test"):
            pomona.extract(pictures, tmp_path / "t", **settings, resume=pomona.Resume(**more))
    (tmp_path / "t" / "_staging-of-the-killed").mkdir()
    with pytest.raises(EngineError, match="of the test"):
        pomona.extract(pictures, tmp_path / "t", **settings)


def test_an_unreadable_file_on_hdfs_gets_a_row_and_the_run_continues(
    spark: SparkSession,
    encoder: Encoder,
    pictures: Path,
    tmp_path: Path,
    remote: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """HDFS makes Spark fail the job for such a file, whatever the session ignores."""
    secret = f"{remote}/{pictures.name}/Apple Red 1/image 1.png"
    real_append, real_open = LocalTableStore.append, HadoopImageStore.can_be_opened
    real_read, read = engine.read_images, set[str]()

    def read_images(session: SparkSession, files: list[ImageFile], *more: Any, **most: Any) -> Any:
        read.clear()
        read.update(file.path for file in files)
        return real_read(session, files, *more, **most)

    def append(self: LocalTableStore, rows: DataFrame) -> Written:
        if secret in read:
            raise RuntimeError("Caused by: org.apache.hadoop.security.AccessControlException: no")
        return real_append(self, rows)

    def can_be_opened(self: HadoopImageStore, file: ImageFile) -> bool:
        return file.path != secret and real_open(self, file)

    monkeypatch.setattr(engine, "read_images", read_images)
    monkeypatch.setattr(LocalTableStore, "append", append)
    monkeypatch.setattr(HadoopImageStore, "can_be_opened", can_be_opened)
    summary = pomona.extract(
        f"{remote}/{pictures.name}",
        tmp_path / "t",
        encoder=encoder,
        engine=pomona.SparkEngine(spark=spark),
    )
    assert secret not in read
    assert (summary.files, len(tables.rows(tmp_path / "t"))) == (14, 14)


def test_files_that_only_the_driver_can_read_end_the_run(
    spark: SparkSession,
    encoder: Encoder,
    many: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """This happens on a cluster if SOURCE is a folder of one machine."""
    monkeypatch.setattr(LocalTableStore, "append", lambda _self, _rows: Written({}, []))
    with pytest.raises(RunError, match="120 of 120 files that the driver can read: is `source` on"):
        pomona.extract(
            many, tmp_path / "t", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
        )
    assert not (tmp_path / "t").exists()


def test_the_transported_encoder_is_released_if_a_run_fails(
    spark: SparkSession,
    encoder: Encoder,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    freed: list[EncoderHandle] = []

    def release(self: EncoderHandle) -> None:
        freed.append(self)

    def fail(_self: LocalTableStore, _rows: DataFrame) -> None:
        raise RunError("of the test")

    monkeypatch.setattr(LocalTableStore, "append", fail)
    monkeypatch.setattr(EncoderHandle, "release", release)
    with pytest.raises(RunError, match="of the test"):
        pomona.extract(
            pictures, tmp_path / "t", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
        )
    assert len(freed) == 1


def test_queries_on_the_tables_rows_are_tagged_with_the_run(
    spark: SparkSession,
    encoder: Encoder,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopping a run must also end it while it deletes rows."""
    groups = set()
    for name in ("index", "append", "compact"):
        real = getattr(LocalTableStore, name)

        def noted(*arguments: Any, real: Any = real) -> Any:
            groups.add(spark.sparkContext.getLocalProperty("spark.jobGroup.id"))
            return real(*arguments)

        monkeypatch.setattr(LocalTableStore, name, noted)
    pomona.extract(
        pictures, tmp_path / "t", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
    )
    (group,) = groups
    assert group.startswith("pomona-")
