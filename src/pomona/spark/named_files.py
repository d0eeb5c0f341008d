"""Reading files of any name with Spark.

Spark drops each file whose name begins with `_` or `.`, in silence, even if it is named: such names
are its own (`InMemoryFileIndex`). Cameras give them to photos: `_DSC0001.JPG`. A classic session is
given a list of files of our own in place of Spark's. Spark Connect lends no JVM, and reads files of
this machine only: there the workers open them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pomona.io.location import is_remote, path_of_row
from pomona.source.image_file import ImageFile, read_batches
from pomona.spark.session.jvm_code import compiled
from pomona.spark.session.session import is_connect

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["can_read_any_name", "read_named"]

_INDEX = "org.apache.spark.sql.execution.datasources.FileIndex"
_JAVA = """
private %(seq)s directories;
private long size;

public Object apply(Object text, Object options) {
    String[] told = ((String) text).split("\\0");
    org.apache.hadoop.fs.FileStatus[] files = new org.apache.hadoop.fs.FileStatus[told.length / 3];
    for (int at = 0; at < files.length; at++) {
        long size = Long.parseLong(told[3 * at + 1]);
        long modified = Long.parseLong(told[3 * at + 2]);
        org.apache.hadoop.fs.Path path = new org.apache.hadoop.fs.Path(told[3 * at]);
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
_COLUMNS = "path string, modificationTime timestamp, length bigint, content binary"  # binaryFile's
_ARROW = pa.schema(
    [
        ("path", pa.string()),
        ("modificationTime", pa.timestamp("us", "UTC")),
        ("length", pa.int64()),
        ("content", pa.binary()),
    ]
)


def can_read_any_name(spark: SparkSession) -> bool:
    """Whether Spark can read files of other file systems whatever their names."""
    return _list_of_files(spark) is not None


def read_named(
    spark: SparkSession, files: list[ImageFile], options: dict[str, str], tasks: int
) -> DataFrame:
    """Read just these files, with the columns of `binaryFile`.

    Args:
        spark: the session.
        files: what to read, each with its size and time.
        options: for `binaryFile`.
        tasks: how many there are to be if the workers open the files themselves; else the
            session's settings decide that.

    Raises:
        RuntimeError: the files are of another file system, and `can_read_any_name` is false.
    """
    index = None if is_connect(spark) else _list_of_files(spark)
    if index is not None:
        return _listed_by_us(spark, index, files, options)
    if is_remote(files[0].uri):
        raise RuntimeError("only Spark can read these files, and it drops them by their names")
    rows = [(file.uri, file.size, file.modified) for file in files]
    paths = spark.createDataFrame(rows, "path string, size bigint, modified bigint")
    return paths.repartition(tasks).mapInArrow(_opened, _COLUMNS)


def _list_of_files(spark: SparkSession) -> Any:
    """An object whose `apply` makes a `FileIndex`, of a text with path, size and time of files."""
    jvm: Any = spark.sparkContext._jvm
    old = jvm.scala.util.Properties.versionNumberString().startswith("2.12.")
    seq = "scala.collection.Seq" if old else "scala.collection.immutable.Seq"
    return compiled(spark, _JAVA % {"seq": seq}, _INDEX)


def _listed_by_us(
    spark: SparkSession, index: Any, files: list[ImageFile], options: dict[str, str]
) -> DataFrame:
    from pyspark.sql import DataFrame as Frame

    told = (str(part) for file in files for part in (file.uri, file.size, file.modified))
    jvm: Any = spark.sparkContext._jvm
    sources: Any = jvm.org.apache.spark.sql.execution.datasources
    types: Any = jvm.org.apache.spark.sql.types
    form = sources.binaryfile.BinaryFileFormat()
    session = spark._jsparkSession
    relation = sources.HadoopFsRelation(
        index.apply("\0".join(told), None),
        types.StructType(),
        types.StructType.fromDDL(_COLUMNS),
        jvm.scala.Option.empty(),
        form,
        jvm.PythonUtils.toScalaMap(options),
        session,
    )
    return Frame(session.baseRelationToDataFrame(relation), spark)


def _opened(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Open files in a worker; one that cannot be read has no row, as with `ignoreCorruptFiles`."""
    files = (
        ImageFile(path_of_row(row["path"]), row["size"], row["modified"])
        for batch in batches
        for row in batch.to_pylist()
    )
    for batch in read_batches(files, lambda _: None):
        read = batch.filter(pc.is_valid(batch["content"]))
        names = {"modificationTime": "modified", "length": "size"}
        columns = [read[names.get(field.name, field.name)].cast(field.type) for field in _ARROW]
        yield pa.RecordBatch.from_arrays(columns, schema=_ARROW)
