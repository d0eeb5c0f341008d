"""Sends tasks the list of the files that they read: each gets a share of about equal work.

The bytes of an image are read by the Python worker that computes it, and pass through no JVM. The
files must be on storage that all machines share, at the same path, in object stores, or on the web.
"""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, compress, cycle, islice
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pomona.source.image_file import ImageFile, read_batches
from pomona.source.urls import host_of, is_on_web
from pomona.spark.session.session import functions_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from pomona.source.images import Reader
    from pomona.source.labels import LabelRule

__all__ = [
    "FILES_COLUMN",
    "OPEN_COST_BYTES",
    "TASKS_OF_HOST",
    "read_shares",
    "share_files",
    "task_count",
]

FILES_COLUMN = "files"
"""The column of shares."""

OPEN_COST_BYTES = 64 * 1024
"""Running the network on an image takes as long as decoding so many bytes."""

_TASKS_PER_CORE = 4  # a few, so that one slow task does not hold up a core's share
_TASKS_PER_CORE_BETWEEN = 2  # fewer, for larger part files, if the next query uses idle cores
_SMALLEST_TASK = 64  # images: for fewer, starting a task costs more than it saves
_SMALLEST_TASK_BYTES = 16 * 2**20  # a few photos take as long as many small images

TASKS_OF_HOST = 4
"""The number of tasks of a wave that fetch from one host."""


def task_count(files: Sequence[ImageFile], cores: int, *, others_follow: bool = False) -> int:
    """Return the number of tasks for some files.

    Args:
        files: the files.
        cores: number of tasks that run at the same time.
        others_follow: whether idle cores can run tasks of another query.
    """
    size = sum(file.size or 0 for file in files)
    worth = max(len(files) // _SMALLEST_TASK, size // _SMALLEST_TASK_BYTES)
    most = cores * (_TASKS_PER_CORE_BETWEEN if others_follow else _TASKS_PER_CORE)
    return max(1, min(most, worth))


def share_files(spark: SparkSession, files: Sequence[ImageFile], tasks: int) -> DataFrame:
    """Return a DataFrame with one share of the files in each of its partitions, `tasks` or fewer.

    A share has files that follow one another in the listing, such as members of one archive. Only
    images of one host on the web are in few shares: executors come and go, so nothing else limits
    what the host gets at once.
    """
    rows = list(enumerate(map(_packed, _shares(files, tasks))))
    table = spark.createDataFrame(rows, f"id bigint, {FILES_COLUMN} binary")
    # `repartition` would give some tasks two shares and others none.
    numbers = spark.range(0, len(rows), 1, len(rows))
    return numbers.join(functions_of(spark).broadcast(table), "id")


def read_shares(
    shares: Iterable[pa.RecordBatch],
    reader: Reader,
    label: LabelRule,
    of_rows: Callable[[list[ImageFile]], None] = lambda _: None,
) -> Iterator[pa.RecordBatch]:
    """Read the files of some shares in a worker, as `pomona.schema.INPUT_SCHEMA`.

    A file that cannot be read has no row: the driver decides whether it or the storage is the
    cause. An image that cannot be fetched from the web has one: its host is asked once.

    Args:
        shares: the shares.
        reader: reads the files.
        label: returns the label of an image.
        of_rows: called with the files of each batch before that is yielded.
    """
    for packed in (value for batch in shares for value in batch[FILES_COLUMN].to_pylist()):
        files: list[ImageFile] = pickle.loads(zlib.decompress(packed))  # noqa: S301 - by the driver
        left = iter(files)
        for batch in read_batches(files, label, reader.read(files)):
            of_batch = list(islice(left, batch.num_rows))
            on_web = pa.array(map(is_on_web, of_batch))
            has_row = pc.or_(pc.is_valid(batch["content"]), on_web)
            read = batch.filter(has_row)
            if read.num_rows:
                of_rows(list(compress(of_batch, has_row.to_pylist())))
                yield read


def _shares(files: Sequence[ImageFile], tasks: int) -> list[list[ImageFile]]:
    """Divide files into shares of about equal work, `tasks` or fewer."""
    work = list(accumulate((file.size or 0) + OPEN_COST_BYTES for file in files))
    shares: list[list[ImageFile]] = [[] for _ in range(tasks)]
    hosts: dict[str, Iterator[int]] = {}
    for file, done in zip(files, work, strict=True):
        host = host_of(file)
        if host is None:
            shares[done * tasks // (work[-1] + 1)].append(file)
        else:
            if host not in hosts:
                first = TASKS_OF_HOST * len(hosts)
                hosts[host] = cycle(range(first, first + min(tasks, TASKS_OF_HOST)))
            shares[next(hosts[host]) % tasks].append(file)
    return [share for share in shares if share]


def _packed(files: list[ImageFile]) -> bytes:
    """Return files as bytes: compressed, because Spark sends 200,000 paths in a few messages."""
    return zlib.compress(pickle.dumps(files), 1)
