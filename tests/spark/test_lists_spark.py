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
from s3_server import S3, s3

__all__ = ["s3"]

pytestmark = pytest.mark.spark


def extract(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run in a process of its own, so that Spark's workers inherit the address of the store."""
    command = [sys.executable, "-m", "pomona", "extract", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_sparks_workers_read_the_objects_of_a_list(
    s3: S3, encoder_file: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pyspark", reason="the Spark engine needs PySpark")
    for n in range(3):
        s3.put(f"bucket/{n}.png", drawn.encode(drawn.picture(seed=n), "PNG"))
    (tmp_path / "3.png").write_bytes(drawn.encode(drawn.picture(seed=3), "PNG"))
    names = [*(f"s3://bucket/{n}.png" for n in range(3)), "3.png", "s3://bucket/missing.png"]
    (tmp_path / "l.txt").write_text("\n".join(names))
    more = ("--encoder", encoder_file, "--json")
    far = extract(tmp_path / "l.txt", tmp_path / "far", *more, "--master", "local[2]")
    assert far.returncode == 0, far.stderr
    assert json.loads(far.stdout)["files"] == 5
    near = extract(tmp_path / "l.txt", tmp_path / "near", *more)
    assert near.returncode == 0, near.stderr
    assert tables.read(tmp_path / "far").equals(tables.read(tmp_path / "near"))


def test_spark_reads_the_objects_of_an_inventory(
    s3: S3, encoder_file: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pyspark", reason="the Spark engine needs PySpark")
    s3.put("bucket/photos/1 b+ü.png", drawn.encode(drawn.picture(seed=1), "PNG"))
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
