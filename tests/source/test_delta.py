"""Images inside Delta tables: Spark wrote tests/goldens/delta, and deltalake the others."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import drawn
import pomona
from command_line import run
from places import TESTS
from pomona.encoder.encoder import Encoder
from pomona.errors import SourceError
from pomona.job.job import table_images
from pomona.source.image_table import ImageColumns, TableImages
from s3_server import S3, s3

deltalake = pytest.importorskip("deltalake")

COLUMN = "delta.columnMapping"
MAPPED = {f"{COLUMN}.mode": "name"}
__all__ = ["s3"]

BY_SPARK = TESTS / "goldens" / "delta"


def images_in(table: Path | str, *keep: str) -> TableImages:
    images = table_images(str(table), ImageColumns("data", "id", keep))
    images.check()
    return images


def contents(images: TableImages) -> dict[str, bytes | None]:
    files = list(images.files(lambda _: None))
    read = images.reader.read(files)
    return {file.path: content for file, (content, _) in zip(files, read, strict=True)}


def rows(**images: bytes) -> pa.Table:
    return pa.table({"id": list(images), "data": pa.array(images.values(), pa.binary())})


def png(seed: int) -> bytes:
    return drawn.encode(drawn.picture(seed=seed), "PNG")


def _log(table: Path, *entries: dict[str, Any], **protocol: Any) -> Path:
    """A table whose log is written by hand, with two columns."""
    configuration = protocol.pop("configuration", {})
    fields = [
        {"name": name, "type": kind, "nullable": True, "metadata": {}}
        for name, kind in [("id", "string"), ("data", "binary")]
    ]
    if configuration == MAPPED:
        for number, field in enumerate(fields):
            field["metadata"] = {f"{COLUMN}.id": number, f"{COLUMN}.physicalName": f"col-{number}"}
    about = {
        "id": "5f2c",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": fields}),
        "partitionColumns": [],
        "configuration": configuration,
        "createdTime": 1,
    }
    version = {"minReaderVersion": 1, "minWriterVersion": 2} | protocol
    lines = [{"protocol": version}, {"metaData": about}, *entries]
    (table / "_delta_log").mkdir(parents=True)
    (table / "_delta_log" / f"{0:020}.json").write_text("\n".join(map(json.dumps, lines)))
    return table


def _added(path: str) -> dict[str, Any]:
    added = {"path": path, "partitionValues": {}, "size": 1, "modificationTime": 1}
    return {"add": added | {"dataChange": True}}


def test_a_table_of_spark_has_the_rows_that_spark_reads() -> None:
    """Its files also contain three deleted rows, marked by deletion vectors."""
    images = images_in(BY_SPARK, "kind", "day", "site")
    day = date(2024, 5, 1)
    assert {file.path: file.kept for file in images.files(lambda _: None)} == {
        "k1": ("quince", day, None),
        "k2": (None, day, None),
        "k3": ("a/b c", day, None),
        "k6": ("a/b c", day, "north"),
        "k7": ("quince", day, "north"),
    }
    assert images.labels("kind") == {
        "k1": "quince", "k2": None, "k3": "a/b c", "k6": "a/b c", "k7": "quince"
    }  # fmt: skip
    assert all(str(content).startswith("b'\\x89PNG") for content in contents(images).values())


def test_files_that_the_log_no_longer_names_are_not_read(tmp_path: Path) -> None:
    table = tmp_path / "t"
    deltalake.write_deltalake(table, rows(a=b"1", b=b"2"))
    deltalake.write_deltalake(table, rows(a=b"3", c=b"4"), mode="overwrite")
    deltalake.write_deltalake(table, rows(d=b"5"), mode="append")
    deltalake.DeltaTable(table).delete("id = 'c'")
    shutil.copy(next(table.glob("*.parquet")), table / "not-committed.parquet")
    assert contents(images_in(table)) == {"a": b"3", "d": b"5"}
    deltalake.DeltaTable(table).create_checkpoint()
    (table / "_delta_log" / f"{0:020}.json").unlink()
    assert contents(images_in(table)) == {"a": b"3", "d": b"5"}


def test_a_run_continues_after_the_table_was_written_again(
    tmp_path: Path, encoder: Encoder
) -> None:
    table, features = tmp_path / "t", tmp_path / "features"

    def extract() -> pomona.Summary:
        return pomona.extract(
            table,
            features,
            encoder=encoder,
            engine=pomona.LocalEngine(workers=1),
            image_column="data",
            key_column="id",
            keep="kind",
            label="column:kind",
            resume=pomona.Resume(prune=True),
        )

    def write(mode: str, kind: str, **images: bytes) -> None:
        some = rows(**images)
        some = some.append_column("kind", pa.array([kind] * len(some)))
        deltalake.write_deltalake(table, some, mode=mode, partition_by=["kind"])

    write("append", "apple", a=png(1), b=png(2))
    write("append", "pear", c=png(3))
    assert extract().ok == 3
    write("append", "pear", d=png(4))
    deltalake.DeltaTable(table).delete("id = 'a'")
    deltalake.DeltaTable(table).optimize.compact()
    changes = extract().changes
    assert (changes.new, changes.changed, changes.unchanged, changes.pruned) == (1, 0, 2, 1)
    found = pa.Table.from_batches(
        pomona.FeatureTable.at(features).batches(["path", "label", "kind"])
    )
    assert sorted(found.to_pylist(), key=lambda row: row["path"]) == [
        {"path": "b", "label": "apple", "kind": "apple"},
        {"path": "c", "label": "pear", "kind": "pear"},
        {"path": "d", "label": "pear", "kind": "pear"},
    ]


@pytest.mark.parametrize("name", ["with space", "a#b?c", "[g]", "ünï", "co:lon", "~t"])
def test_a_table_may_have_any_name_that_a_uri_can_express(tmp_path: Path, name: str) -> None:
    shutil.copytree(BY_SPARK, tmp_path / name)
    assert set(contents(images_in(tmp_path / name))) == {"k1", "k2", "k3", "k6", "k7"}


def test_another_table_is_never_read_in_place_of_one_with_a_percent_sign(tmp_path: Path) -> None:
    """deltalake takes `a%20b` for `a b`."""
    deltalake.write_deltalake(tmp_path / "a b", rows(wrong=b"1"))
    (tmp_path / "other").mkdir()
    deltalake.write_deltalake(tmp_path / "other", rows(right=b"2"))
    (tmp_path / "other").rename(tmp_path / "a%20b")
    with pytest.raises(SourceError, match="cannot read .*a%20b"):
        images_in(tmp_path / "a%20b")


def test_files_of_another_table_that_a_clone_names_are_read(tmp_path: Path) -> None:
    deltalake.write_deltalake(tmp_path / "t", rows(a=b"1"))
    (file,) = (tmp_path / "t").glob("*.parquet")
    assert contents(images_in(_log(tmp_path / "clone", _added(file.as_uri())))) == {"a": b"1"}
    with pytest.raises(SourceError, match="with the file s3://b/x.parquet of another one"):
        images_in(_log(tmp_path / "far", _added("s3://b/x.parquet")))


@pytest.mark.parametrize("checkpointed", [True, False])
def test_a_table_in_a_bucket_is_read_like_one_here(
    s3: S3, tmp_path: Path, checkpointed: bool
) -> None:
    shutil.copytree(BY_SPARK, tmp_path / "t")
    if not checkpointed:
        (tmp_path / "t" / "_delta_log" / "_last_checkpoint").unlink()
    s3.put_folder(tmp_path / "t", "bucket/lake/t")
    there, here = (
        images_in("s3://bucket/lake/t", "kind", "site"),
        images_in(BY_SPARK, "kind", "site"),
    )
    assert contents(there) == contents(here)
    kept = {file.path: file.kept for file in there.files(lambda _: None)}
    assert kept == {file.path: file.kept for file in here.files(lambda _: None)}
    with pytest.raises(SourceError, match="in a Delta table.*give s3://bucket/lake/t as `source`"):
        images_in("s3://bucket/lake/t/kind=quince")


def test_a_log_in_a_bucket_that_cannot_be_read_is_refused_in_one_line(s3: S3) -> None:
    s3.put("bucket/t/_delta_log/_last_checkpoint", b"no JSON")
    s3.put("bucket/t/a.parquet", b"")
    with pytest.raises(SourceError, match="cannot read s3://bucket/t as a Delta table"):
        images_in("s3://bucket/t")


@pytest.mark.parametrize(
    "given", ["kind=quince", "kind=quince/day=2024-05-01/*.parquet", "**/*.parquet"]
)
def test_a_part_of_a_table_is_refused_with_the_whole_table(given: str) -> None:
    with pytest.raises(SourceError, match=f"in a Delta table.*give {BY_SPARK} as `source`"):
        images_in(BY_SPARK / given)


def _features(*names: str) -> dict[str, Any]:
    return {
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": names,
        "writerFeatures": names,
    }


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        (
            {"minReaderVersion": 2, "minWriterVersion": 5, "configuration": MAPPED},
            "with columnMapping, which",
        ),
        (_features("catalogManaged"), "cannot read .*catalog"),
        (_features("someday"), "cannot read .*someday"),
        ({"minReaderVersion": 9}, "cannot read .*version 9"),
    ],
)
def test_a_table_whose_files_do_not_say_everything_is_refused(
    tmp_path: Path, protocol: dict[str, Any], message: str
) -> None:
    with pytest.raises(SourceError, match=message) as refusal:
        images_in(_log(tmp_path / "t", **protocol))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("log", [b"", b"{", b"\xff", None])
def test_a_damaged_log_is_refused_in_one_line(tmp_path: Path, log: bytes | None) -> None:
    (tmp_path / "t" / "_delta_log").mkdir(parents=True)
    if log is not None:
        (tmp_path / "t" / "_delta_log" / f"{0:020}.json").write_bytes(log)
    with pytest.raises(SourceError, match="cannot read .* as a Delta table: ") as refusal:
        images_in(tmp_path / "t")
    assert "\n" not in str(refusal.value)
    assert "unknown" not in str(refusal.value)


def test_missing_files_and_missing_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot read .*gone.parquet as Parquet"):
        images_in(_log(tmp_path / "t", _added("gone.parquet")))
    with pytest.raises(SourceError, match="has no rows"):
        images_in(_log(tmp_path / "empty"))


def test_without_the_package_the_command_says_how_to_install_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "deltalake", None)
    options: Sequence[str] = ("--image-column", "data", "--key-column", "id")
    code, out, err = run(capfd, "extract", BY_SPARK, tmp_path / "f", *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "reading its log needs deltalake" in err
    assert "pip install '.[delta]'" in err
