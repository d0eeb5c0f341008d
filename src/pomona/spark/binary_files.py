"""Reading files of Hadoop file systems with Spark's `binaryFile`, in tasks of about equal work.

Only the JVMs of the executors have the cluster's settings and credentials for these. In a classic
session, Pomona gives Spark its own list of files. Spark would look at each path before the first
task, and silently drop each file whose name begins with `_` or `.` (`InMemoryFileIndex`), because
it uses such names itself. Cameras give them to photos: `_DSC0001.JPG`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

from pomona.spark.file_shares import OPEN_COST_BYTES, task_count
from pomona.spark.session.jvm_code import compiled

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from pomona.source.image_file import ImageFile

__all__ = ["can_list_files", "read_images", "read_settings"]

_ARROW_BYTES = 16 * 2**20  # of images in an Arrow batch
# Images that cannot be read are skipped. These are not settings of the session, because it also
# reads part files of the table, and must not skip any of them.
_OPTIONS = {"ignoreMissingFiles": "true", "ignoreCorruptFiles": "true"}
_LOOKS_AT_ONCE = 64  # checks of paths at once: fewer than the connections of `s3a`
_LEAST_LOOKS = 16  # checks for each thread: its query takes as long as one or two of them
_COLUMNS = "path string, modificationTime timestamp, length bigint, content binary"
_INDEX = "org.apache.spark.sql.execution.datasources.FileIndex"
_JAVA = """
private %(seq)s directories;
private long size;

public Object apply(Object text, Object options) {
    String[] parts = ((String) text).split("\\0");
    org.apache.hadoop.fs.FileStatus[] files = new org.apache.hadoop.fs.FileStatus[parts.length / 3];
    for (int at = 0; at < files.length; at++) {
        long size = Long.parseLong(parts[3 * at + 1]);
        long modified = Long.parseLong(parts[3 * at + 2]);
        org.apache.hadoop.fs.Path path = new org.apache.hadoop.fs.Path(parts[3 * at]);
        files[at] = new org.apache.hadoop.fs.FileStatus(size, false, 1, 1L << 27, modified, path);
        this.size += size;
    }
    org.apache.spark.sql.catalyst.InternalRow none =
        org.apache.spark.sql.catalyst.InternalRow$.MODULE$.empty();
    Object all =
        org.apache.spark.sql.execution.datasources.PartitionDirectory.apply(none, files);
    this.directories = (%(seq)s) scala.collection.immutable.Nil$.MODULE$.$colon$colon(all);
    return this;
}
public %(seq)s listFiles(%(seq)s partitionFilters, %(seq)s dataFilters) { return directories; }
public %(seq)s rootPaths() { return (%(seq)s) scala.collection.immutable.Nil$.MODULE$; }
public String[] inputFiles() { return new String[0]; }
public void refresh() {}
public long sizeInBytes() { return size; }
public org.apache.spark.sql.types.StructType partitionSchema() {
    return new org.apache.spark.sql.types.StructType();
}
"""


def read_images(
    spark: SparkSession, files: list[ImageFile], cores: int, *, others_follow: bool = False
) -> DataFrame:
    """Read exactly these images, with the columns of `binaryFile`, in tasks of about equal work.

    This changes settings of the session.

    Args:
        spark: a classic session whose settings may be changed.
        files: the files to read, each with its size and time.
        cores: number of tasks that run at the same time.
        others_follow: whether idle cores can run tasks of another query.
    """
    for key, value in read_settings(files, cores, others_follow=others_follow).items():
        spark.conf.set(key, str(value))
    index = _list_of_files(spark)
    if index is not None:
        return _listed_by_us(spark, index, files)
    return _listed_by_spark(spark, [file.uri for file in files]).coalesce(
        max(cores, task_count(files, cores, others_follow=others_follow))
    )


def can_list_files(spark: SparkSession) -> bool:
    """Return whether Spark takes Pomona's list of files, so that it drops none by its name."""
    return _list_of_files(spark) is not None


def read_settings(
    files: list[ImageFile], cores: int, *, others_follow: bool = False
) -> dict[str, object]:
    """Return Spark's settings for reading files: how they are packed into tasks and batches."""
    sizes = [file.size or 0 for file in files]
    largest = max(sizes)
    weight = sum(sizes) + len(sizes) * OPEN_COST_BYTES
    tasks = task_count(files, cores, others_follow=others_follow)
    return {
        "spark.sql.files.openCostInBytes": OPEN_COST_BYTES,
        "spark.sql.files.maxPartitionBytes": weight // tasks + OPEN_COST_BYTES,
        # If Spark looks at paths, the driver's threads check up to this many. For more, it runs a
        # job with a task for each path.
        "spark.sql.sources.parallelPartitionDiscovery.threshold": 20_000,
        # The list of files is used once. To cache it, Spark measures its size: 0.5 s for 8,000.
        "spark.sql.hive.filesourcePartitionFileCacheSize": 0,
        # Rows for Spark 3.5, bytes for versions that have that setting.
        "spark.sql.execution.arrow.maxRecordsPerBatch": max(1, _ARROW_BYTES // max(largest, 65536)),
        "spark.sql.execution.arrow.maxBytesPerBatch": _ARROW_BYTES,
    }


def _list_of_files(spark: SparkSession) -> Any:
    """Return an object whose `apply` makes a `FileIndex` from a text of paths, sizes and times."""
    jvm: Any = spark.sparkContext._jvm
    old = jvm.scala.util.Properties.versionNumberString().startswith("2.12.")
    seq = "scala.collection.Seq" if old else "scala.collection.immutable.Seq"
    return compiled(spark, _JAVA % {"seq": seq}, _INDEX)


def _listed_by_us(spark: SparkSession, index: Any, files: list[ImageFile]) -> DataFrame:
    from pyspark.sql import DataFrame as Frame

    fields = (str(part) for file in files for part in (file.uri, file.size, file.modified))
    jvm: Any = spark.sparkContext._jvm
    sources: Any = jvm.org.apache.spark.sql.execution.datasources
    types: Any = jvm.org.apache.spark.sql.types
    form = sources.binaryfile.BinaryFileFormat()
    session = spark._jsparkSession
    relation = sources.HadoopFsRelation(
        index.apply("\0".join(fields), None),
        types.StructType(),
        types.StructType.fromDDL(_COLUMNS),
        jvm.scala.Option.empty(),
        form,
        jvm.PythonUtils.toScalaMap(_OPTIONS),
        session,
    )
    return Frame(session.baseRelationToDataFrame(relation), spark)


def _listed_by_spark(spark: SparkSession, paths: list[str]) -> DataFrame:
    """Let Spark look at each path. It does so one after the other, and a store takes 25 ms."""
    looks = min(_LOOKS_AT_ONCE, -(-len(paths) // _LEAST_LOOKS))
    with ThreadPoolExecutor(looks, "pomona-look") as threads:
        shares = [paths[first::looks] for first in range(looks)]
        frames = threads.map(partial(_load, spark), shares)
        return reduce(lambda some, others: some.union(others), frames)


def _load(spark: SparkSession, paths: list[str]) -> DataFrame:
    # A folder called `kind=odd` is not a partition, and names with brackets are no patterns.
    reader = spark.read.format("binaryFile").option("recursiveFileLookup", "true")
    named: Any = reader.option("__globPaths__", "false").options(**_OPTIONS)
    # One string in place of a list: PySpark makes a call of 0.15 ms for each element.
    jvm: Any = spark.sparkContext._jvm
    strings = jvm.java.util.regex.Pattern.compile("\0").split("\0".join(paths))
    return named._df(named._jreader.load(strings))  # type: ignore[no-any-return]
