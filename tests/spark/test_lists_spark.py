"""Lists of objects in stores, on Spark: the workers read them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import drawn
import tables

pytest.importorskip("pyspark", reason="the Spark engine needs PySpark")

from pyspark.sql import SparkSession

import pomona
from pomona.encoder.encoder import Encoder
from pomona.job.summary import Summary
from s3_server import S3, s3
from web_server import redirecting, serving

__all__ = ["s3"]

pytestmark = pytest.mark.spark


def picture(seed: int) -> bytes:
    return drawn.encode(drawn.picture(seed=seed), "PNG")


def extract(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run in a process of its own, so that Spark's workers inherit the address of the store."""
    command = [sys.executable, "-m", "pomona", "extract", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_sparks_workers_read_the_objects_of_a_list(
    s3: S3, encoder_file: Path, tmp_path: Path
) -> None:
    for n in range(3):
        s3.put(f"bucket/{n}.png", picture(n))
    (tmp_path / "3.png").write_bytes(picture(3))
    names = [*(f"s3://bucket/{n}.png" for n in range(3)), "3.png", "s3://bucket/missing.png"]
    (tmp_path / "l.txt").write_text("\n".join(names))
    more = ("--encoder", encoder_file, "--json")
    far = extract(tmp_path / "l.txt", tmp_path / "far", *more, "--master", "local[2]")
    assert far.returncode == 0, far.stderr
    assert json.loads(far.stdout)["files"] == 5
    near = extract(tmp_path / "l.txt", tmp_path / "near", *more)
    assert near.returncode == 0, near.stderr
    assert tables.read(tmp_path / "far").equals(tables.read(tmp_path / "near"))


def test_sparks_workers_fetch_urls_as_the_embedded_engine_does(
    spark: SparkSession, encoder: Encoder, tmp_path: Path
) -> None:
    (tmp_path / "4.png").write_bytes(picture(4))
    with serving() as web:

        def run(table: str, engine: object, **more: object) -> Summary:
            return pomona.extract(
                tmp_path / "l.txt", tmp_path / table, encoder=encoder, engine=engine, **more
            )

        web.answers |= {"/red/1.png": picture(1), "/2": redirecting("/red/1.png"), "/3": b"<html>"}
        lines = [web.url(path) for path in ("/red/1.png", "/2", "/3", "/missing")]
        (tmp_path / "l.txt").write_text("\n".join([*lines, "4.png", lines[0]]))
        on_spark = pomona.SparkEngine(spark=spark)
        run("near", pomona.LocalEngine(workers=1), private_urls=True)
        web.seen.clear()
        assert run("far", on_spark, private_urls=True).files == 5
        assert tables.read(tmp_path / "far").equals(tables.read(tmp_path / "near"))
        assert web.seen == {"/red/1.png": 2, "/2": 1, "/3": 1, "/missing": 1}  # once, by a worker
        web.answers["/missing"] = picture(3)
        again = pomona.Resume(retry_failed=True)
        assert run("far", on_spark, private_urls=True, resume=again).failed == 1
        assert web.seen["/red/1.png"] == 2
        run("refused", on_spark)
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
    done = extract(
        *(tmp_path / "manifest.json", tmp_path / "t", "--encoder", encoder_file, "--json"),
        *("--master", "local[2]"),
    )
    assert done.returncode == 0, done.stderr
    rows = {row["path"]: row["status"] for row in tables.read(tmp_path / "t").to_pylist()}
    assert rows == {
        "s3://bucket/photos/1 b+ü.png": "ok",
        "s3://bucket/photos/2%41.jpg": "unreadable",
    }


def test_a_list_in_a_bucket_is_refused_on_spark_in_one_line(
    encoder_file: Path, tmp_path: Path
) -> None:
    refused = extract(
        *("s3a://bucket/l.csv.gz", tmp_path / "t", "--encoder", encoder_file),
        *("--master", "local[2]"),
    )
    assert refused.returncode == 2
    assert "SOURCE s3a://bucket/l.csv.gz is a list in a bucket: copy it here" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
