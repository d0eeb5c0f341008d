"""Images and tables on a Hadoop file system: no row is lost there either."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import drawn
import tables

pytest.importorskip("pyspark", reason="the Spark engine needs PySpark")

from pyspark.sql import DataFrame, SparkSession

import pomona
from pomona.encoder.encoder import Encoder
from pomona.errors import PomonaError, RunError, TableError
from pomona.job.changes import Changes
from pomona.job.job import JobPaths
from pomona.source.image_file import ImageFile
from pomona.spark import binary_files
from pomona.spark import run as engine
from pomona.spark.storage.hadoop import listing
from pomona.spark.storage.hadoop import store as hadoop_store
from pomona.spark.storage.hadoop.copier import SparkCopier
from pomona.spark.storage.hadoop.filesystem import HadoopImageStore, hadoop_path, hadoop_system
from pomona.spark.storage.hadoop.listing import HadoopListing
from pomona.spark.storage.hadoop.store import HadoopStore
from pomona.spark.storage.hadoop.table import HadoopTableStore
from pomona.table.held_table import HeldTable
from pomona.table.hold import FolderLock
from pomona.table.row_index import KEY_IN_SQL, keys_of
from pomona.table.store import part_entries
from stores import Killed, check_contract

pytestmark = pytest.mark.spark


def test_images_and_table_may_be_on_a_hadoop_file_system(
    spark: SparkSession,
    encoder: Encoder,
    pictures: Path,
    tmp_path: Path,
    remote: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(binary_files, "_LEAST_LOOKS", 3)  # so that several threads check them
    source, table = f"{remote}/{pictures.name}", f"{remote}/far"
    summary = pomona.extract(source, table, encoder=encoder, engine=pomona.SparkEngine(spark=spark))
    rerun = pomona.extract(source, table, encoder=encoder, engine=pomona.SparkEngine(spark=spark))
    pomona.extract(
        pictures, tmp_path / "near", encoder=encoder, engine=pomona.LocalEngine(workers=1)
    )
    far, near = tables.read(tmp_path / "far"), tables.read(tmp_path / "near")
    for name in ("label", "features", "status", "size", "modified", "content_sha256"):
        assert far[name].equals(near[name]), name
    assert {p.as_py() for p in far["path"]} == {
        p.as_py().replace(f"file:{pictures}", source) for p in near["path"]
    }
    assert (summary.files, rerun.skipped, rerun.ok) == (14, 14, 0)


def test_a_uri_with_one_slash_is_a_hadoop_uri_and_writes_nothing_to_the_drivers_disk(
    spark: SparkSession,
    encoder: Encoder,
    pictures: Path,
    tmp_path: Path,
    remote: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configuration = spark.sparkContext._jsc.hadoopConfiguration()
    configuration.set("fs.viewfs.mounttable.default.link./data", f"file://{tmp_path}")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    source, table = f"viewfs:/data/{pictures.name}", "VIEWFS:/data/far"
    first = pomona.extract(source, table, encoder=encoder, engine=pomona.SparkEngine(spark=spark))
    rerun = pomona.extract(
        f"viewfs:///data/{pictures.name}",
        table,
        encoder=encoder,
        engine=pomona.SparkEngine(spark=spark),
    )
    assert (first.files, rerun.skipped, len(tables.rows(tmp_path / "far"))) == (14, 14, 14)
    for location, message in (
        ("dbfs:/x", "dbfs|cannot reach"),
        ("C:/x", "a Windows path"),
        ("http://x/y", "web address"),
    ):
        with pytest.raises(PomonaError, match=message):
            pomona.extract(
                location, f"{remote}/other", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
            )
        with pytest.raises(PomonaError, match=message):
            pomona.extract(
                pictures, location, encoder=encoder, engine=pomona.SparkEngine(spark=spark)
            )
    assert not list(here.iterdir())
    (here / "hdfs:" / "x").mkdir(parents=True)
    for source, table in (("hdfs:/x", "t"), (str(pictures), "hdfs:/x")):
        with pytest.raises(PomonaError, match=r"write \./hdfs:/x for the path, or hdfs:///x for"):
            pomona.extract(source, table, encoder=encoder, engine=pomona.SparkEngine(spark=spark))


def test_a_remote_table_of_another_encoder_is_refused_and_overwrite_replaces_it(
    spark: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path, remote: str
) -> None:
    import dataclasses

    other = dataclasses.replace(encoder, weights_sha256="0" * 64)
    pomona.extract(
        pictures, f"{remote}/far", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
    )
    with pytest.raises(TableError, match="made by another encoder"):
        pomona.extract(
            pictures, f"{remote}/far", encoder=other, engine=pomona.SparkEngine(spark=spark)
        )
    pomona.extract(
        pictures,
        f"{remote}/far",
        encoder=other,
        engine=pomona.SparkEngine(spark=spark),
        resume=pomona.Resume(overwrite=True),
    )
    assert pomona.FeatureTable(tmp_path / "far").provenance()["weights_sha256"] == "0" * 64
    assert len(tables.rows(tmp_path / "far")) == 14


def test_a_remote_folder_that_is_not_a_table_is_never_changed(
    spark: SparkSession, encoder: Encoder, pictures: Path, remote: str
) -> None:
    with pytest.raises(TableError, match="not a feature table"):
        pomona.extract(
            pictures,
            remote,
            encoder=encoder,
            engine=pomona.SparkEngine(spark=spark),
            resume=pomona.Resume(overwrite=True),
        )
    assert (pictures / "notes.txt").exists()


def test_a_remote_table_is_resumed_like_a_local_one(
    spark: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path, remote: str
) -> None:
    source, table = f"{remote}/{pictures.name}", f"{remote}/far"
    pomona.extract(source, table, encoder=encoder, engine=pomona.SparkEngine(spark=spark))
    (pictures / "new.png").write_bytes(drawn.encode(drawn.picture(), "PNG"))
    os.utime(pictures / "Apple Red 1" / "image 3.jpg", (1e9, 1e9))
    (pictures / "Apple Red 1" / "image 1.png").unlink()
    more = {"resume": pomona.Resume(retry_failed=True, prune=True)}
    planned = pomona.extract(
        source, table, encoder=encoder, dry_run=True, **more, engine=pomona.SparkEngine(spark=spark)
    )
    rerun = pomona.extract(
        source, table, encoder=encoder, **more, engine=pomona.SparkEngine(spark=spark)
    )
    assert planned.changes == rerun.changes == Changes(1, 1, 3, 9, 1, 1, labelled=14)
    pomona.extract(
        source, f"{remote}/fresh", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
    )
    assert tables.read(tmp_path / "far").equals(tables.read(tmp_path / "fresh"))
    assert {path.suffix for path in (tmp_path / "far").iterdir()} <= {".parquet", ".crc"}


def test_a_remote_table_of_an_earlier_version_is_continued(
    spark: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path, remote: str
) -> None:
    def extract(name: str, **options: Any) -> pa.Table:
        engine = pomona.SparkEngine(spark=spark)
        pomona.extract(pictures, f"{remote}/{name}", encoder=encoder, engine=engine, **options)
        return tables.read(tmp_path / name)

    extract("now")
    rows = spark.read.parquet(f"{remote}/now").drop("brightness", "sharpness")
    rows.coalesce(1).write.parquet(f"{remote}/then")
    (pictures / "new.png").write_bytes(drawn.encode(drawn.picture(9, 9, 5), "PNG"))
    found = extract("then")
    assert len(found) - found["brightness"].null_count == 1
    features = pomona.spark.read_features(spark, f"{remote}/then", ok_only=False)
    assert features.where("brightness is not null").select("path").count() == 1
    relabelled = extract("then", label="none")
    assert relabelled["brightness"].equals(found["brightness"])
    assert relabelled["label"].null_count == len(found)


def test_small_part_files_of_a_remote_table_are_merged(
    spark: SparkSession,
    encoder: Encoder,
    pictures: Path,
    tmp_path: Path,
    remote: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pomona.extract(
        pictures, tmp_path / "near", encoder=encoder, engine=pomona.LocalEngine(workers=1)
    )
    monkeypatch.setattr("pomona.table.part_file._SMALL_PARTS", 1)
    monkeypatch.setattr("pomona.spark.file_shares._SMALLEST_TASK", 2)
    pomona.extract(
        pictures, f"{remote}/far", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
    )
    assert len(list((tmp_path / "far").glob("*.parquet"))) == 1
    assert tables.read(tmp_path / "far").equals(tables.read(tmp_path / "near"))


def merge(rows: HadoopTableStore, table: HeldTable) -> None:
    """Copy the part files of a table into one."""
    parts, place = list(table.sizes()), table.new_place()
    table.swap(parts, rows._copier.copy(parts, place), place)


def relabel(rows: HadoopTableStore, table: HeldTable) -> None:
    """Give each row a different label."""
    paths = {part: next(rows.paths_in([part])) for part in table.sizes()}
    table.relabel(
        {part: dict.fromkeys(keys_of(part_paths), "new") for part, part_paths in paths.items()}
    )


@pytest.mark.parametrize("moment", ["copies are written", "rows are gone", "rows are back"])
@pytest.mark.parametrize("work", [merge, relabel])
def test_a_kill_during_replacement_of_remote_part_files_keeps_each_row_once(
    spark: SparkSession,
    encoder: Encoder,
    pictures: Path,
    tmp_path: Path,
    remote: str,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    work: Callable[[HadoopTableStore, HeldTable], None],
) -> None:
    pomona.extract(
        pictures, f"{remote}/far", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
    )
    before = tables.read(tmp_path / "far")
    rows = HadoopTableStore(f"{remote}/far", spark)
    table = HeldTable(rows._store, rows._copier, FolderLock(tmp_path), "_staging-of-the-killed")
    move = HadoopStore.move

    def killed(self: HadoopStore, *args: Any) -> None:
        if moment == "rows are back":
            move(self, *args)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(HadoopStore, "delete" if moment == "copies are written" else "move", killed)
        with pytest.raises(Killed):
            work(rows, table)
    rerun = pomona.extract(
        pictures,
        f"{remote}/far",
        encoder=encoder,
        label="none",
        engine=pomona.SparkEngine(spark=spark),
    )
    assert (rerun.skipped, rerun.changes.relabelled, rerun.model_loads) == (14, 14, 0)
    result = tables.read(tmp_path / "far")
    assert result["label"].null_count == 14
    assert result.drop_columns("label").equals(before.drop_columns("label"))
    assert not list((tmp_path / "far").glob("_*"))


def test_an_interrupted_rename_by_copy_does_not_block_later_writers(
    spark: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path, remote: str
) -> None:
    pomona.extract(
        pictures, f"{remote}/far", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
    )
    before = tables.read(tmp_path / "far")
    (part, *others) = sorted((tmp_path / "far").glob("*.parquet"))
    place = tmp_path / "far" / "_staging-of-the-killed" / "swap-1"
    place.mkdir(parents=True)
    copies = [shutil.copy(file, place / f"new-{file.name}") for file in (part, *others)]
    names = {"old": [file.name for file in (part, *others)], "new": [c.name for c in copies]}
    (place / "swap.json").write_text(json.dumps(names))
    for file in (part, *others):
        file.unlink()
        file.with_name(f".{file.name}.crc").unlink(missing_ok=True)
    (tmp_path / "far" / copies[0].name).write_bytes(copies[0].read_bytes()[:100])
    rerun = pomona.extract(
        pictures, f"{remote}/far", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
    )
    assert (rerun.skipped, rerun.ok) == (14, 0)
    assert tables.read(tmp_path / "far").equals(before)


def test_a_failed_delete_stops_the_swap_before_rows_are_duplicated(
    spark: SparkSession,
    encoder: Encoder,
    pictures: Path,
    tmp_path: Path,
    remote: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pomona.extract(
        pictures, f"{remote}/far", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
    )
    before = tables.read(tmp_path / "far")

    class Stubborn:
        """A file system whose delete returns false."""

        def __init__(self, real: Any) -> None:
            self._real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

        def delete(self, path: Any, recursive: bool) -> bool:
            is_part = path.getParent().getName() == "far" and path.getName().endswith(".parquet")
            return False if is_part else self._real.delete(path, recursive)

    real = hadoop_store.hadoop_system
    monkeypatch.setattr(hadoop_store, "hadoop_system", lambda *args: Stubborn(real(*args)))
    rows = HadoopTableStore(f"{remote}/far", spark)
    with (
        pytest.raises(TableError, match="cannot delete .*parquet: check its permissions"),
        rows.held(encoder.provenance(), overwrite=False),
    ):
        merge(rows, rows._held)
    assert tables.read(tmp_path / "far").equals(before)


def test_the_same_run_completes_a_failed_swap_in_a_remote_table(
    spark: SparkSession,
    encoder: Encoder,
    pictures: Path,
    tmp_path: Path,
    remote: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pomona.extract(
        pictures, f"{remote}/far", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
    )
    before = tables.read(tmp_path / "far")
    rows = HadoopTableStore(f"{remote}/far", spark)
    move = HadoopStore.move
    failures = iter([TableError("the storage is away for a moment")])

    def failing(self: HadoopStore, *args: Any) -> None:
        for error in failures:
            raise error
        move(self, *args)

    monkeypatch.setattr(HadoopStore, "move", failing)
    with (
        pytest.raises(TableError, match="away for a moment"),
        rows.held(encoder.provenance(), overwrite=True),
    ):
        merge(rows, rows._held)
    assert tables.read(tmp_path / "far").equals(before)
    assert not list((tmp_path / "far").glob("_*"))


def test_hadoop_store_satisfies_the_store_contract(spark: SparkSession, remote: str) -> None:
    check_contract(HadoopStore(f"{remote}/store", spark))


def test_a_swap_journal_with_paths_outside_the_remote_table_is_refused(
    spark: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path, remote: str
) -> None:
    pomona.extract(
        pictures, f"{remote}/far", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
    )
    outside_file = tmp_path / "precious.parquet"
    outside_file.touch()
    swap = tmp_path / "far" / "_staging-of-a-stranger" / "swap-1"
    swap.mkdir(parents=True)
    (swap / "swap.json").write_text('{"old": ["../precious.parquet"], "new": []}')
    with pytest.raises(TableError, match=r"swap.json does not say which of the table's files"):
        pomona.extract(
            pictures, f"{remote}/far", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
        )
    assert outside_file.exists()


def test_a_second_writer_of_a_remote_table_is_refused_and_a_stale_lease_does_not_block(
    spark: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path, remote: str
) -> None:
    (tmp_path / "far").mkdir()
    lease_file = tmp_path / "far" / "_running-of-another"
    lease_file.touch()
    with pytest.raises(TableError, match="another run is writing .*holds it for 60 s"):
        pomona.extract(
            pictures, f"{remote}/far", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
        )
    assert list((tmp_path / "far").glob("_*")) == [lease_file]
    os.utime(lease_file, (1e9, 1e9))
    assert (
        pomona.extract(
            pictures, f"{remote}/far", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
        ).ok
        == 11
    )
    assert not list((tmp_path / "far").glob("_*"))


@pytest.mark.parametrize("written", ["", '{"old": ["part'])
def test_a_swap_with_an_incomplete_journal_did_not_happen(
    spark: SparkSession,
    encoder: Encoder,
    pictures: Path,
    tmp_path: Path,
    remote: str,
    written: str,
) -> None:
    pomona.extract(
        pictures, f"{remote}/far", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
    )
    before = tables.read(tmp_path / "far")
    swap = tmp_path / "far" / "_staging-of-the-killed" / "swap-1"
    swap.mkdir(parents=True)
    (swap / "swap.json").write_text(written)
    assert (
        pomona.extract(
            pictures, f"{remote}/far", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
        ).skipped
        == 14
    )
    assert tables.read(tmp_path / "far").equals(before)
    assert not swap.exists()


def test_an_unreadable_part_file_is_never_dropped_for_any_session_setting(
    spark: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path, remote: str
) -> None:
    pomona.extract(
        pictures, f"{remote}/far", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
    )
    contents = {part: bytearray(part.read_bytes()) for part in (tmp_path / "far").glob("*.parquet")}
    for part, content in contents.items():
        content[4:400] = bytes(396)  # damages the pages; the footer stays intact
        part.write_bytes(content)
        part.with_name(f".{part.name}.crc").unlink(missing_ok=True)
    os.utime(pictures / "Apple Red 1" / "image 3.jpg", (1e9, 1e9))
    careless = spark.newSession()
    careless.conf.set("spark.sql.files.ignoreCorruptFiles", "true")
    careless.conf.set("spark.sql.files.ignoreMissingFiles", "true")
    with pytest.raises(PomonaError):
        pomona.extract(
            pictures, f"{remote}/far", encoder=encoder, engine=pomona.SparkEngine(spark=careless)
        )
    assert {part: part.read_bytes() for part in contents} == contents


def test_a_copy_that_lost_rows_does_not_replace_part_files(
    spark: SparkSession,
    encoder: Encoder,
    pictures: Path,
    remote: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pomona.extract(
        pictures, f"{remote}/far", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
    )
    rows = HadoopTableStore(f"{remote}/far", spark)
    parts, write = list(part_entries(rows._store)), SparkCopier.write
    monkeypatch.setattr(
        SparkCopier, "write", lambda self, some, place: write(self, some.limit(13), place)
    )
    with (
        pytest.raises(RunError, match="copied 14 rows .*, but the copies have 13"),
        rows.held(encoder.provenance(), overwrite=True),
    ):
        merge(rows, rows._held)
    assert list(part_entries(rows._store)) == parts


def test_a_table_of_two_encoders_is_refused_for_any_order_of_its_parts(
    spark: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path, remote: str
) -> None:
    import dataclasses

    other = dataclasses.replace(encoder, weights_sha256="0" * 64)
    pomona.extract(
        pictures, tmp_path / "far", encoder=encoder, engine=pomona.LocalEngine(workers=1)
    )
    pomona.extract(
        pictures, tmp_path / "other", encoder=other, engine=pomona.LocalEngine(workers=1)
    )
    (part, *_) = (tmp_path / "other").glob("*.parquet")
    part.rename(tmp_path / "far" / f"z{part.name}")
    with pytest.raises(TableError, match="mixes rows of two encoders"):
        pomona.extract(
            pictures, f"{remote}/far", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
        )


def test_a_damaged_part_file_is_named_with_a_remedy(
    spark: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path, remote: str
) -> None:
    pomona.extract(
        pictures, tmp_path / "far", encoder=encoder, engine=pomona.LocalEngine(workers=1)
    )
    (tmp_path / "far" / "part-0.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(TableError, match="part-0.parquet is not a readable .*delete it"):
        pomona.extract(
            pictures, f"{remote}/far", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
        )


def test_glob_characters_may_be_in_a_remote_tables_name(
    spark: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path, remote: str
) -> None:
    table = f"{remote}/run [1] {{a,b}}"
    first = pomona.extract(pictures, table, encoder=encoder, engine=pomona.SparkEngine(spark=spark))
    os.utime(pictures / "Apple Red 1" / "image 3.jpg", (1e9, 1e9))
    rerun = pomona.extract(pictures, table, encoder=encoder, engine=pomona.SparkEngine(spark=spark))
    assert (first.files, rerun.skipped, rerun.ok) == (14, 13, 1)
    assert len(tables.rows(tmp_path / "run [1] {a,b}")) == 14


def test_fetching_many_listed_files_in_one_call_equals_fetching_them_one_by_one(
    spark: SparkSession, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_AT_ONCE", 3)

    def files() -> list[ImageFile]:
        folder = hadoop_path(spark, f"file:{pictures}")
        result = hadoop_system(spark, folder).listFiles(folder, True)
        return sorted(HadoopListing(spark).files(result))

    at_once = files()
    monkeypatch.setattr(listing, "_compiled", lambda _: None)
    assert at_once == files()
    every = [path for path in pictures.rglob("*") if path.is_file()]
    assert [f.path for f in at_once] == sorted(f"file:{path}" for path in every)
    assert sum(f.size for f in at_once) == sum(path.stat().st_size for path in every)


def test_sparks_jvm_compiles_the_bulk_listing_code(spark: SparkSession) -> None:
    assert listing._compiled(spark) is not None


def test_nested_roots_of_a_glob_list_each_file_once(
    spark: SparkSession, encoder: Encoder, pictures: Path, tmp_path: Path, remote: str
) -> None:
    both = f"{remote}/{{{pictures.name},{pictures.name}/kind=bad}}"
    summary = pomona.extract(
        both, f"{remote}/far", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
    )
    assert summary.files == len(tables.rows(tmp_path / "far")) == 14


def test_hidden_folders_that_a_glob_matches_and_the_table_itself_are_not_images(
    spark: SparkSession, encoder: Encoder, pictures: Path, remote: str
) -> None:
    for name in ("_trash", ".thumbnails"):
        (pictures / name).mkdir()
        (pictures / name / "image.png").write_bytes(drawn.encode(drawn.picture(), "PNG"))
    every, table = f"{remote}/{pictures.name}/*", f"{remote}/{pictures.name}/features"
    globs = ["*.png", "*.parquet"]
    first = pomona.extract(
        every, table, encoder=encoder, globs=globs, engine=pomona.SparkEngine(spark=spark)
    )
    rerun = pomona.extract(
        every, table, encoder=encoder, globs=globs, engine=pomona.SparkEngine(spark=spark)
    )
    near = pomona.extract(
        f"{pictures}/*",
        pictures / "near",
        encoder=encoder,
        globs=["*.png"],
        engine=pomona.LocalEngine(workers=1),
    )
    assert first.files == rerun.files == near.files > 0


@pytest.mark.parametrize("before", [True, False])
def test_files_deleted_truncated_or_replaced_after_the_listing_get_rows_that_say_so(
    spark: SparkSession,
    encoder: Encoder,
    pictures: Path,
    tmp_path: Path,
    remote: str,
    monkeypatch: pytest.MonkeyPatch,
    before: bool,
) -> None:
    real = engine.read_images
    deleted, cut = (
        pictures / "Apple Red 1" / "image 1.png",
        pictures / "Apple Red 1" / "image 3.jpg",
    )
    replaced = pictures / "Apple Red 1" / "image 5.webp"
    new_content = drawn.encode(drawn.picture(40, 40, 77), "WEBP")

    def change() -> None:
        deleted.unlink(missing_ok=True)
        os.truncate(cut, 200)
        replaced.write_bytes(new_content)

    def read_images(*arguments: Any, **more: Any) -> DataFrame:
        if before:
            change()
            return real(*arguments, **more)
        images = real(*arguments, **more)
        change()
        return images

    monkeypatch.setattr(engine, "read_images", read_images)
    source, table = f"{remote}/{pictures.name}", f"{remote}/far"
    pomona.extract(source, table, encoder=encoder, engine=pomona.SparkEngine(spark=spark))
    rows = tables.rows(tmp_path / "far")
    assert len(rows) == 14
    assert rows["image 1.png"]["status"] == "unreadable"
    assert "cannot be read: " in rows["image 1.png"]["error"]
    assert rows["image 3.jpg"]["status"] != "ok"
    monkeypatch.undo()
    rerun = pomona.extract(
        source,
        table,
        encoder=encoder,
        engine=pomona.SparkEngine(spark=spark),
        resume=pomona.Resume(prune=True),
    )
    assert (rerun.changes.pruned, rerun.files) == (1, 13)
    pomona.extract(
        source, f"{remote}/fresh", encoder=encoder, engine=pomona.SparkEngine(spark=spark)
    )
    assert tables.read(tmp_path / "far").equals(tables.read(tmp_path / "fresh"))


def test_the_keys_of_rows_are_the_same_in_spark_and_for_all_schemes_of_a_store(
    spark: SparkSession,
) -> None:
    paths = ["s3://b/x.jpg", "s3a://b/x.jpg", "s3n://b/x.jpg", "abfs://c@a/x", "abfss://c@a/x"]
    paths += ["file:/s3a://b/x.jpg", "s3ax://b/x.jpg", "gs://b/ü %$1.jpg"]
    rows = spark.createDataFrame([(path,) for path in paths], "path string")
    keys = [bytes(row[0]) for row in rows.selectExpr(KEY_IN_SQL).collect()]
    assert keys == keys_of(paths)
    assert len(set(keys)) == 5


def test_a_row_with_another_scheme_of_the_same_store_can_be_gone() -> None:
    images = HadoopImageStore.__new__(HadoopImageStore)
    images._roots, images._table = {"s3://bucket/photos"}, None
    images._paths = JobPaths("s3a://bucket/photos", "features")
    assert images._is_gone("s3a://bucket/photos/a.jpg")
    assert images._is_gone("s3://bucket/photos/a.jpg")
    assert not images._is_gone("s3a://bucket/other/a.jpg")
