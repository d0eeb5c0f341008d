"""Images in Parquet files in an object store, on the embedded engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import drawn
import pomona
import tables
from faulty_server import three_of_four_reads_fail
from pomona.encoder.encoder import Encoder
from pomona.errors import RunError, SourceError
from pomona.io import remote
from pomona.job.summary import Summary
from pomona.source.image_table import ImageColumns, TableImages
from s3_server import S3, SLOW_DOWN, Request, s3

__all__ = ["s3"]

Run = Callable[..., Summary]

COLUMNS = {"image_column": "data", "key_column": "id", "label": "column:kind"}


@pytest.fixture
def run(encoder: Encoder) -> Run:
    def extract(source: object, table: object, **more: object) -> Summary:
        return pomona.extract(
            source, table, encoder=encoder, engine=pomona.LocalEngine(workers=1), **COLUMNS | more
        )

    return extract


def parquet(numbers: range, first_seed: int = 0) -> bytes:
    """A Parquet file with several row groups, and one value that is no image."""
    images = [drawn.encode(drawn.picture(seed=first_seed + n), "PNG") for n in numbers]
    images[-1] = b"no image"
    names = [f"img-{number}" for number in numbers]
    table = pa.table({"id": names, "data": images, "kind": ["fruit"] * len(names)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=3)
    return sink.getvalue().to_pybytes()


def put(s3: S3, folder: Path) -> None:
    folder.mkdir()
    for name, numbers in (("a.parquet", range(7)), ("b.parquet", range(7, 12))):
        (folder / name).write_bytes(parquet(numbers))
    s3.put_folder(folder, "bucket/tables")


@pytest.mark.parametrize("source", ["tables", "tables/*.parquet", "tables/{a,b}.parquet"])
def test_rows_of_parquet_files_in_a_bucket_equal_those_of_files_here(
    s3: S3, run: Run, tmp_path: Path, source: str
) -> None:
    put(s3, tmp_path / "tables")
    run(tmp_path / "tables", tmp_path / "near")
    first = run(f"s3://bucket/{source}", tmp_path / "far")
    again = run(f"s3://bucket/{source}", tmp_path / "far")
    assert tables.read(tmp_path / "far").equals(tables.read(tmp_path / "near"))
    assert (first.files, first.ok, again.ok, again.skipped) == (12, 10, 0, 12)


def test_a_changed_image_in_a_bucket_is_computed_again(s3: S3, run: Run, tmp_path: Path) -> None:
    s3.put("bucket/a.parquet", parquet(range(4)))
    run("s3://bucket/a.parquet", tmp_path / "features")
    s3.put("bucket/a.parquet", parquet(range(4), first_seed=100))
    changes = run("s3://bucket/a.parquet", tmp_path / "features").changes
    assert (changes.changed, changes.unchanged) == (3, 1)


@pytest.mark.long
def test_throttling_errors_and_resets_lose_no_row(s3: S3, run: Run, tmp_path: Path) -> None:
    s3.put("bucket/a.parquet", parquet(range(7)))
    run("s3://bucket/a.parquet", tmp_path / "calm")
    seen: list[str] = []
    s3.fault = three_of_four_reads_fail(seen)
    run("s3://bucket/a.parquet", tmp_path / "shaky")
    assert tables.read(tmp_path / "shaky").equals(tables.read(tmp_path / "calm"))
    assert len(seen) > 8


def test_a_store_that_stays_busy_ends_the_run_without_failed_rows(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "GIVE_UP_S", 0.0)
    s3.put("bucket/a.parquet", parquet(range(4)))
    images = TableImages.at("s3://bucket/a.parquet", ImageColumns("data", "id"))
    files = list(images.files(lambda _: None))

    def busy(request: Request) -> None:
        if request.method == "GET" and request.reads_object:
            raise SLOW_DOWN

    s3.fault = busy
    with pytest.raises(RunError, match="cannot read s3://bucket/a.parquet.*run it again"):
        list(images.reader.read(files))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("s3://key:secret@bucket/none.parquet", "s3://bucket/none.parquet does not exist"),
        ("s3://bucket/notes", "s3://bucket/notes has no Parquet files"),
        ("s3://bucket/notes/a.txt", "cannot read s3://bucket/notes/a.txt as Parquet"),
    ],
)
def test_what_is_missing_or_no_parquet_in_a_bucket_is_refused_with_one_line(
    s3: S3, run: Run, tmp_path: Path, source: str, message: str
) -> None:
    s3.put("bucket/notes/a.txt", b"text")
    with pytest.raises(SourceError, match=message) as caught:
        run(source, tmp_path / "features")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
