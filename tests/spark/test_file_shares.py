"""Tasks get shares of the list of files, and read the files themselves."""

from __future__ import annotations

import pickle
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

pytest.importorskip("pyspark", reason="the Spark engine needs PySpark")

from pyspark.sql import SparkSession

from pomona.source.image_file import BATCH_BYTES, Content, ImageFile, look_at, read_content
from pomona.source.images import FileReader
from pomona.source.urls import host_of, named_url
from pomona.spark.file_shares import (
    OPEN_COST_BYTES,
    TASKS_OF_HOST,
    read_shares,
    share_files,
    task_count,
)
from pomona.spark.session.session import session

pytestmark = pytest.mark.spark


TREES = [(8000, 5000, 8), (50, 40 * 2**20, 8), (3, 0, 1)]  # small images, photos, empty files


@pytest.mark.parametrize(("count", "size", "tasks"), TREES)
def test_each_task_gets_one_share_of_about_equal_work(
    spark: SparkSession, count: int, size: int, tasks: int
) -> None:
    files = [ImageFile(f"/{number}.jpg", size * (number % 3), 0) for number in range(count)]
    assert task_count(files, 2) == tasks
    shared = share_files(spark, files, task_count(files, 2))
    partitions = shared.rdd.glom().collect()
    assert {len(rows) for rows in partitions} == {1}
    assert len(partitions) == tasks
    shares = [pickle.loads(zlib.decompress(row["files"])) for (row,) in partitions]
    assert sorted(file for share in shares for file in share) == sorted(files)
    work = [sum(file.size + OPEN_COST_BYTES for file in share) for share in shares]
    assert max(work) - min(work) <= 2 * (2 * size + OPEN_COST_BYTES)


def test_few_tasks_fetch_from_one_host(spark: SparkSession) -> None:
    urls = [named_url(f"https://{host}.org/{n}.jpg") for n in range(300) for host in ("a", "b")]
    paths = [ImageFile(f"/{number}.jpg", 1, 0) for number in range(600)]
    rows = share_files(spark, [*urls, *paths], 16).collect()
    shares = [pickle.loads(zlib.decompress(row["files"])) for row in rows]
    assert sorted(file.path for share in shares for file in share) == sorted(
        file.path for file in [*urls, *paths]
    )
    for host in ("a.org", "b.org"):
        of_host = [sum(host_of(file) == host for file in share) for share in shares]
        assert sorted(filter(None, of_host)) == [75] * TASKS_OF_HOST


def test_shares_wait_for_busy_cores_longer_than_sparks_limit(spark: SparkSession) -> None:
    callers = {"spark.sql.broadcastTimeout": "1", "spark.sql.adaptive.enabled": "false"}
    known = {name: spark.conf.get(name) for name in callers}
    slow = spark.sparkContext.range(2, numSlices=2).map(lambda _: time.sleep(4))
    busy = ThreadPoolExecutor(1).submit(slow.count)
    time.sleep(1)
    try:
        for name, value in callers.items():
            spark.conf.set(name, value)
        with session(spark, None) as active:
            assert share_files(active, [ImageFile("/a.jpg", 1, 0)], 1).count() == 1
            assert busy.result(0) == 2
    finally:
        for name, value in known.items():
            spark.conf.set(name, str(value))


def test_a_share_is_read_in_batches_of_bounded_bytes(tmp_path: Path) -> None:
    sizes = [BATCH_BYTES // 2 + 1] * 5 + [1] * 40
    files = []
    for number, size in enumerate(sizes):
        (tmp_path / f"{number}.jpg").write_bytes(bytes(size))
        files.append(look_at(str(tmp_path / f"{number}.jpg")))
    opened: list[str] = []

    class Counting(FileReader):
        def read(self, files: Sequence[ImageFile]) -> Iterator[Content]:
            for file in files:
                opened.append(file.path)
                yield read_content(file)

    share = pa.RecordBatch.from_pydict({"files": [zlib.compress(pickle.dumps(files))]})
    batches = read_shares([share], Counting(), lambda _: None)
    assert not opened
    assert next(batches).num_rows == len(opened) == 2  # the next ones are not read ahead
    assert sum(batch.num_rows for batch in batches) == 43
