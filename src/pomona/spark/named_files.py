"""Reading files of any name with Spark.

Spark silently drops each file whose name begins with `_` or `.`, even if its path is given: it uses
such names itself (`InMemoryFileIndex`). Cameras give them to photos: `_DSC0001.JPG`. In a classic
session, Pomona replaces Spark's list of files. Spark Connect gives no access to the JVM: there the
workers open the files, on this machine only.
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

__all__ = ["COLUMNS", "as_binary_file", "can_read_any_name", "read_named"]

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
COLUMNS = "path string, modificationTime timestamp, length bigint, content binary"
"""The columns of `binaryFile`."""

_ARROW = pa.schema(
    [
        ("path", pa.string()),
        ("modificationTime", pa.timestamp("us", "UTC")),
        ("length", pa.int64()),
        ("content", pa.binary()),
    ]
)


def can_read_any_name(spark: SparkSession) -> bool:
    """Return whether Spark can read files of any name on other file systems."""
    return _list_of_files(spark) is not None


def read_named(
    spark: SparkSession, files: list[ImageFile], options: dict[str, str], tasks: int
) -> DataFrame:
    """Read exactly these files, with the columns of `binaryFile`.

    Args:
        spark: the session.
        files: the files to read, each with its size and time.
        options: options of `binaryFile`.
        tasks: number of tasks if the workers open the files; otherwise the session's settings
            decide.

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
    return paths.repartition(tasks).mapInArrow(_opened, COLUMNS)


def _list_of_files(spark: SparkSession) -> Any:
    """Return an object whose `apply` makes a `FileIndex` from a text of paths, sizes and times."""
    jvm: Any = spark.sparkContext._jvm
    old = jvm.scala.util.Properties.versionNumberString().startswith("2.12.")
    seq = "scala.collection.Seq" if old else "scala.collection.immutable.Seq"
    return compiled(spark, _JAVA % {"seq": seq}, _INDEX)


def _listed_by_us(
    spark: SparkSession, index: Any, files: list[ImageFile], options: dict[str, str]
) -> DataFrame:
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
        types.StructType.fromDDL(COLUMNS),
        jvm.scala.Option.empty(),
        form,
        jvm.PythonUtils.toScalaMap(options),
        session,
    )
    return Frame(session.baseRelationToDataFrame(relation), spark)


def _opened(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Open files in a worker; an unreadable file has no row, as with `ignoreCorruptFiles`."""
    for given in batches:
        files = [
            ImageFile(path_of_row(row["path"]), row["size"], row["modified"])
            for row in given.to_pylist()
        ]
        yield from as_binary_file(read_batches(files, lambda _: None))


def as_binary_file(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Turn batches of `pomona.schema.INPUT_SCHEMA` into rows of `binaryFile`.

    An image without bytes has no row.
    """
    for batch in batches:
        read = batch.filter(pc.is_valid(batch["content"]))
        names = {"modificationTime": "modified", "length": "size"}
        columns = [read[names.get(field.name, field.name)].cast(field.type) for field in _ARROW]
        yield pa.RecordBatch.from_arrays(columns, schema=_ARROW)
