"""Measures the time and memory of listing S3 Inventory; prints a Markdown table.

    python benchmarks/inventory.py --count 1000000

It writes an inventory in CSV, as Amazon does, and one in Parquet, and lists each in a process of
its own. No object is read.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from run import machine

SCHEMA = "Bucket, Key, Size, LastModifiedDate, ETag"
TIME = "2024-05-06T07:08:09.123Z"

LIST = """
import re, sys, time
from pomona.job.job import JobPaths, images_of
from pomona.source.listing import Listing
started = time.perf_counter()
count = sum(1 for _ in Listing.of(images_of(JobPaths(sys.argv[1], "features"))).files())
memory = int(re.search("VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) / 1024
print(count, time.perf_counter() - started, memory)
"""


def rows(count: int) -> Iterator[tuple[str, str, int, str, str]]:
    for number in range(count):
        key = f"photos/{number // 1000:06}/{number:09}.jpg"
        yield "bucket", key, 100_000 + number, TIME, f"{number:032x}"


def write(folder: Path, kind: str, count: int) -> Path:
    """Write an inventory, and return its manifest."""
    folder.mkdir()
    data = folder / f"data.{'csv.gz' if kind == 'CSV' else 'parquet'}"
    if kind == "CSV":
        with gzip.open(data, "wt", newline="") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows(count))
    else:
        names = ["bucket", "key", "size", "last_modified_date", "e_tag"]
        table = pa.table(dict(zip(names, zip(*rows(count), strict=True), strict=True)))
        moment = pa.scalar(TIME).cast(pa.timestamp("ms", "UTC"))
        at = table.schema.get_field_index("last_modified_date")
        table = table.set_column(at, names[at], pa.repeat(moment, count))
        pq.write_table(table, data, row_group_size=100_000)
    manifest = {
        "sourceBucket": "bucket",
        "destinationBucket": "arn:aws:s3:::destination",
        "fileFormat": kind,
        "fileSchema": SCHEMA,
        "files": [{"key": f"inventory/data/{data.name}", "size": data.stat().st_size}],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder / "manifest.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    count = parser.parse_args().count
    away = {**os.environ, "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    print(f"{count:,} objects; {machine()}\n")
    print("| format | seconds | microseconds for each | peak memory |\n|---|---|---|---|")
    for kind in ("CSV", "Parquet"):
        with tempfile.TemporaryDirectory() as folder:
            path = write(Path(folder) / kind, kind, count)
            command = [sys.executable, "-c", LIST, path]
            done = subprocess.run(command, env=away, stdout=subprocess.PIPE, text=True, check=True)
        listed, seconds, memory = map(float, done.stdout.split())
        assert listed == count
        each = seconds / count * 1e6
        print(f"| {kind} | {seconds:.1f} | {each:.0f} | {memory:.0f} MB |")


if __name__ == "__main__":
    main()
