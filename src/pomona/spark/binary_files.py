"""Reading images with Spark's `binaryFile`, or from archives, in tasks of about equal work."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

from pomona.io.location import is_remote, literal_glob
from pomona.spark.members import read_members
from pomona.spark.named_files import read_named
from pomona.spark.session.session import is_connect

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.readwriter import DataFrameReader

    from pomona.source.image_file import ImageFile

__all__ = ["read_images", "read_settings"]

_TASKS_PER_CORE = 4  # a few, so that one slow task does not hold up a core's share
_TASKS_PER_CORE_BETWEEN = 2  # fewer, for larger part files, if the next query uses idle cores
_SMALLEST_TASK = 64  # images: for fewer, starting a task costs more than it saves
_SMALLEST_TASK_BYTES = 16 * 2**20  # a few photos take as long as many small images
_OPEN_COST_BYTES = 64 * 1024  # running the network on an image takes as long as decoding 64 kB
_ARROW_BYTES = 16 * 2**20  # of images in an Arrow batch
_LOOKS_AT_ONCE = 64  # checks of remote paths at once: fewer than the connections of `s3a`
# Images that cannot be read are skipped. These are not settings of the session, because it also
# reads part files of the table, and must not skip any of them.
_OPTIONS = {"ignoreMissingFiles": "true", "ignoreCorruptFiles": "true"}
_LEAST_LOOKS = 16  # checks for each thread: its query takes as long as one or two of them


def read_images(
    spark: SparkSession, files: list[ImageFile], cores: int, *, others_follow: bool = False
) -> DataFrame:
    """Read exactly these images, with the columns of `binaryFile`, in tasks of about equal work.

    This changes settings of the session.

    Args:
        spark: a session whose settings may be changed.
        files: the files to read.
        cores: number of tasks that run at the same time.
        others_follow: whether idle cores can run tasks of another query.
    """
    for key, value in read_settings(files, cores, others_follow=others_follow).items():
        spark.conf.set(key, str(value))
    tasks = _tasks(files, cores, others_follow=others_follow)
    members = [file for file in files if file.place is not None]
    seen = [file for file in files if file.place is None and file.has_name_for_spark]
    others = [file for file in files if file.place is None and not file.has_name_for_spark]
    parts = [read_members(spark, members, tasks)] if members else []
    parts += [_seen(spark, seen, max(cores, tasks))] if seen else []
    if others:
        parts.append(read_named(spark, others, _OPTIONS, tasks))
    return reduce(_union, parts)


def _seen(spark: SparkSession, files: list[ImageFile], most_tasks: int) -> DataFrame:
    """Read files whose names Spark does not skip."""
    paths = [file.uri for file in files]
    if is_connect(spark):  # Spark 4.3 ignores `__globPaths__` there
        return _reader(spark).load([literal_glob(path) for path in paths])
    if not is_remote(paths[0]):
        return _load(spark, paths)
    # Spark checks the paths one after the other, and a store takes 25 ms or more for each.
    looks = min(_LOOKS_AT_ONCE, -(-len(paths) // _LEAST_LOOKS))
    with ThreadPoolExecutor(looks, "pomona-look") as threads:
        shares = [paths[first::looks] for first in range(looks)]
        every = reduce(_union, threads.map(partial(_load, spark), shares))
    return every.coalesce(most_tasks)


def _reader(spark: SparkSession) -> DataFrameReader:
    reader = spark.read.format("binaryFile")
    # A folder called `kind=odd` is not a partition. Without this, Spark 4.3 also returns all other
    # files twice if one name contains a brace.
    reader = reader.option("recursiveFileLookup", "true")
    return reader.options(**_OPTIONS)


def _load(spark: SparkSession, paths: list[str]) -> DataFrame:
    # Names with brackets or braces are names, not patterns.
    named: Any = _reader(spark).option("__globPaths__", "false")
    return named._df(named._jreader.load(_java_strings(spark, paths)))  # type: ignore[no-any-return]


def _union(some: DataFrame, others: DataFrame) -> DataFrame:
    return some.union(others)


def _java_strings(spark: SparkSession, paths: list[str]) -> Any:
    """Return a Java array, sent as one string: PySpark makes a call of 0.15 ms for each element."""
    jvm: Any = spark.sparkContext._jvm
    return jvm.java.util.regex.Pattern.compile("\0").split("\0".join(paths))


def read_settings(
    files: list[ImageFile], cores: int, *, others_follow: bool = False
) -> dict[str, object]:
    """Return Spark's settings for reading files: how they are packed into tasks and batches."""
    sizes = [file.size or 0 for file in files]
    largest = max(sizes)
    weight = sum(sizes) + len(sizes) * _OPEN_COST_BYTES
    tasks = _tasks(files, cores, others_follow=others_follow)
    return {
        "spark.sql.files.openCostInBytes": _OPEN_COST_BYTES,
        "spark.sql.files.maxPartitionBytes": weight // tasks + _OPEN_COST_BYTES,
        # The driver's threads check up to this many explicit paths. For more, Spark runs a job with
        # a task for each path, unless the number of tasks is set.
        "spark.sql.sources.parallelPartitionDiscovery.threshold": 20_000,
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": 4 * cores,
        # The list of files is used once. To cache it, Spark measures its size: 0.5 s for 8,000.
        "spark.sql.hive.filesourcePartitionFileCacheSize": 0,
        # Rows for Spark 3.5, bytes for versions that have that setting.
        "spark.sql.execution.arrow.maxRecordsPerBatch": max(1, _ARROW_BYTES // max(largest, 65536)),
        "spark.sql.execution.arrow.maxBytesPerBatch": _ARROW_BYTES,
    }


def _tasks(files: list[ImageFile], cores: int, *, others_follow: bool) -> int:
    size = sum(file.size or 0 for file in files)
    worth = max(len(files) // _SMALLEST_TASK, size // _SMALLEST_TASK_BYTES)
    most = cores * (_TASKS_PER_CORE_BETWEEN if others_follow else _TASKS_PER_CORE)
    return max(1, min(most, worth))
