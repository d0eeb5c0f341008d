"""Lists and archives on Spark: the workers read objects in stores, and fetch URLs."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import drawn
import tables

pytest.importorskip("pyspark", reason="the Spark engine needs PySpark")

from pyspark.sql import SparkSession

import pomona
from pomona.encoder.encoder import Encoder
from pomona.errors import SourceError
from pomona.job.summary import Summary
from s3_server import S3, s3
from web_server import redirecting, serving

__all__ = ["s3"]

pytestmark = pytest.mark.spark


Run = Callable[..., Summary]


@pytest.fixture
def run(spark: SparkSession, encoder: Encoder) -> Run:
    """Extract on one of the engines."""

    def extract(
        source: object, table: object, *, on_spark: bool = False, **more: object
    ) -> Summary:
        engine = pomona.SparkEngine(spark=spark) if on_spark else pomona.LocalEngine(workers=1)
        return pomona.extract(source, table, encoder=encoder, engine=engine, **more)

    return extract


def settings(s3: S3) -> str:
    """The settings of the server in a URI: Spark's workers have the environment of their JVM."""
    return f"endpoint_override={s3.address}&scheme=http&region=us-east-1"


def picture(seed: int) -> bytes:
    return drawn.encode(drawn.picture(seed=seed), "PNG")


def shard_of(images: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in images.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def test_sparks_workers_read_the_objects_of_a_list_in_a_bucket(
    s3: S3, run: Run, tmp_path: Path
) -> None:
    for n in range(3):
        s3.put(f"bucket/{n}.png", picture(n))
    (tmp_path / "3.png").write_bytes(picture(3))
    names = [*(f"{n}.png" for n in range(3)), f"file:{tmp_path}/3.png", "s3://bucket/missing.png"]
    s3.put("bucket/l.txt", "\n".join(names).encode())
    source = f"s3://key:secret@bucket/l.txt?{settings(s3)}"
    assert run(source, tmp_path / "far", on_spark=True).files == 5
    run(source, tmp_path / "near")
    assert tables.read(tmp_path / "far").equals(tables.read(tmp_path / "near"))


def test_sparks_workers_fetch_urls_as_the_embedded_engine_does(run: Run, tmp_path: Path) -> None:
    (tmp_path / "4.png").write_bytes(picture(4))
    with serving() as web:
        web.answers |= {"/red/1.png": picture(1), "/2": redirecting("/red/1.png"), "/3": b"<html>"}
        lines = [web.url(path) for path in ("/red/1.png", "/2", "/3", "/missing")]
        (tmp_path / "l.txt").write_text("\n".join([*lines, "4.png", lines[0]]))
        source, far = tmp_path / "l.txt", tmp_path / "far"
        run(source, tmp_path / "near", private_urls=True)
        web.seen.clear()
        assert run(source, far, on_spark=True, private_urls=True).files == 5
        assert tables.read(far).equals(tables.read(tmp_path / "near"))
        assert web.seen == {"/red/1.png": 2, "/2": 1, "/3": 1, "/missing": 1}  # once, by a worker
        web.answers["/missing"] = picture(3)
        again = pomona.Resume(retry_failed=True)
        assert run(source, far, on_spark=True, private_urls=True, resume=again).failed == 1
        assert web.seen["/red/1.png"] == 2
        run(source, tmp_path / "refused", on_spark=True)
    errors = [row["error"] for row in tables.read(tmp_path / "refused").to_pylist()]
    reason = "cannot be fetched: is at 127.0.0.1, which is not a public address"
    assert sorted(errors, key=str) == [None, *[reason] * 4]


def test_spark_reads_the_objects_of_an_inventory(
    s3: S3, encoder_file: Path, tmp_path: Path
) -> None:
    s3.put("bucket/photos/1 b+ü.png", picture(1))
    files = Path(__file__).parents[1] / "goldens" / "inventory" / "files.parquet"
    shutil.copy(files, tmp_path)
    said = {"sourceBucket": "bucket", "destinationBucket": "arn:aws:s3:::bucket"}
    said |= {"fileFormat": "Parquet", "fileSchema": "", "files": [{"key": "x/files.parquet"}]}
    (tmp_path / "manifest.json").write_text(json.dumps(said))
    # In a process of its own, so that Spark's workers inherit the address of the store.
    arguments = ("--encoder", encoder_file, "--json", "--master", "local[2]")
    command = (sys.executable, "-m", "pomona", "extract", tmp_path / "manifest.json")
    done = subprocess.run(
        [*command, tmp_path / "t", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = {row["path"]: row["status"] for row in tables.read(tmp_path / "t").to_pylist()}
    assert rows == {
        "s3://bucket/photos/1 b+ü.png": "ok",
        "s3://bucket/photos/2%41.jpg": "unreadable",
    }


def test_sparks_workers_read_archives_in_a_bucket_and_continue_the_embedded_engines_table(
    s3: S3, run: Run, tmp_path: Path
) -> None:
    for shard in range(3):
        tar = shard_of({f"red/{n}.png": picture(10 * shard + n) for n in range(9)} | {"b.png": b""})
        s3.put(f"bucket/shard-{shard}.tar", tar[: -len(tar) // 2] if shard == 2 else tar)
    shards = f"s3a://key:secret@bucket/shard-{{0..9}}.tar?{settings(s3)}"
    run("s3://bucket/shard-0.tar", tmp_path / "far")
    s3.requests.clear()
    assert run(shards, tmp_path / "far", on_spark=True).skipped == 10
    reads = [path for method, path, _ in s3.requests if (method, path[-5:]) == ("GET", "1.tar")]
    assert 1 < len(reads) < 6  # to list it, and then neighbours by one request
    run(shards, tmp_path / "near")
    found, expected = tables.read(tmp_path / "far"), tables.read(tmp_path / "near")
    assert found.drop_columns(["path"]).equals(expected.drop_columns(["path"]))
    errors = {row["path"]: row["error"] for row in found.to_pylist()}
    assert errors["s3a://bucket/shard-2.tar::"].startswith("cannot be read after byte")


def test_sparks_workers_read_images_in_parquet_files_in_a_bucket(
    s3: S3, run: Run, tmp_path: Path
) -> None:
    def put(*images: bytes | None) -> None:
        file, numbers = io.BytesIO(), range(len(images))
        columns = {"id": numbers, "data": images, "site": [f"site {n}" for n in numbers]}
        pq.write_table(pa.table(columns), file, row_group_size=3)
        s3.put("bucket/train/0.parquet", file.getvalue())

    more = {"image_column": "data", "key_column": "id", "keep": "site"}
    source, far = f"s3://key:secret@bucket/train?{settings(s3)}", tmp_path / "far"
    images = [picture(1), b"no image", picture(2), None]
    put(*images)
    run(source, far, on_spark=True, **more)
    images[2:] = [picture(3), None, picture(4)]
    put(*images)
    changes = run(source, far, on_spark=True, **more).changes
    assert (changes.changed, changes.new, changes.unchanged) == (1, 1, 3)
    run(source, tmp_path / "near", **more)
    found, expected = (pq.read_table(table).sort_by("path") for table in (far, tmp_path / "near"))
    assert found.equals(expected)
    assert found["site"].to_pylist() == [f"site {n}" for n in range(5)]


def test_archives_that_workers_cannot_reach_are_refused_in_one_line(
    run: Run, remote: str, tmp_path: Path
) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "0.tar").write_bytes(b"")
    for source, reason in (
        (f"{remote}/shards", "or archives by a glob such as .*/shards/\\*.tar"),
        (f"{remote}/shards/0.tar", "on the file system 'viewfs'.*: Spark's workers read archives"),
    ):
        with pytest.raises(SourceError, match=reason):
            run(source, tmp_path / "t", on_spark=True)
