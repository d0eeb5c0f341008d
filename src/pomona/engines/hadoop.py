"""Images and tables on a file system that Hadoop knows: `s3a://`, `hdfs://`, `abfss://`, ...

All access goes through the JVM of the driver, so that the cluster's credentials and settings hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pomona.engines.places import append_parquet, written_once
from pomona.errors import SourceError, TableError
from pomona.schema import (
    FEATURE_SCHEMA,
    INPUT_SCHEMA,
    SPARK_SCHEMA,
    column_metadata,
    provenance_of_column,
)
from pomona.source import MAX_FILE_BYTES, ImageFile, Listing, is_chosen, is_hidden
from pomona.table import check_same_maker

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from pomona.engines.job import Job, JobPaths
    from pomona.labels import LabelRule

__all__ = ["HadoopImages", "HadoopRows"]


class HadoopImages:
    """Images on a Hadoop file system."""

    def __init__(self, paths: JobPaths, spark: SparkSession) -> None:
        self._paths = paths
        self._spark = spark
        self.listing = Listing(paths.source, self._files)

    def present(self, files: Iterable[ImageFile]) -> list[ImageFile]:
        """Files that are not empty and fit into a byte array; asking for each would take long."""
        return [file for file in files if file.size and file.size <= MAX_FILE_BYTES]

    def read(self, files: Iterable[ImageFile], label: LabelRule) -> Iterator[pa.RecordBatch]:
        """Rows for what Spark left out: empty files, and those that it could not read."""
        import pyarrow as pa

        for file in files:
            row = {
                "path": file.uri,
                "label": label(file.uri),
                "size": file.size,
                "modified": file.modified and file.modified * 1000,
                "content": b"" if file.size == 0 else None,
                "read_error": "cannot be read: Spark left it out",
            }
            yield pa.RecordBatch.from_pylist([row], INPUT_SCHEMA)

    def _files(self, _on_error: Callable[[OSError], None]) -> Iterator[ImageFile]:
        folder = _path(self._spark, self._paths.source)
        system = _system(self._spark, folder)
        roots = system.globStatus(folder)
        if not roots:
            raise SourceError(f"{self._paths.source} does not exist: give a folder or a glob")
        for status in sorted(roots, key=lambda status: str(status.getPath().toString())):
            root = status.getPath().toString()
            if status.isFile():  # named by the user, whatever its name
                yield ImageFile(root, status.getLen(), status.getModificationTime())
                continue
            found = system.listFiles(status.getPath(), True)
            while found.hasNext():
                file = found.next()
                path = file.getPath().toString()
                relative = path[len(root) :].lstrip("/")
                hidden = any(map(is_hidden, relative.split("/")))
                if not hidden and is_chosen(relative, self._paths.globs):
                    yield ImageFile(path, file.getLen(), file.getModificationTime())


class HadoopRows:
    """A feature table on a Hadoop file system."""

    def __init__(self, table: str, spark: SparkSession) -> None:
        self._table = table
        self._spark = spark

    @contextmanager
    def writing(self, job: Job) -> Iterator[None]:
        """Check the table; object stores have no lock that ends with its holder."""
        strange = [name for name in self._names() if not _belongs(name)]
        if strange:
            raise TableError(
                f"{self._table} exists and is not a feature table (it holds {strange[0]!r}): "
                "give another TABLE"
            )
        parts = self._parts()
        if parts:
            self._check_provenance(parts, job)
        if parts and job.overwrite:
            folder = _path(self._spark, self._table)
            _system(self._spark, folder).delete(folder, True)
        yield

    def paths(self) -> set[str]:
        """The paths that have a row."""
        parts = self._parts()
        if not parts:
            return set()
        return {row["path"] for row in self._read(parts).select("path").toLocalIterator()}

    def append(self, rows: DataFrame) -> dict[str, str]:
        """Write with Spark, then read paths and statuses of the new part files."""
        before = set(self._parts())
        append_parquet(rows, self._table)
        new = self._read(sorted(set(self._parts()) - before)).select("path", "status").collect()
        return written_once([row.asDict() for row in new])

    def append_batches(self, rows: list[pa.RecordBatch], job: Job) -> None:
        """Write a part file beside the others."""
        from pyspark.sql.functions import col

        # As plain rows: Spark 3.5 takes no Arrow table here. They are few.
        plain = [tuple(row.values()) for batch in rows for row in batch.to_pylist()]
        frame = self._spark.createDataFrame(plain, SPARK_SCHEMA)
        metadata = column_metadata(job.provenance())
        features = col("features").alias("features", metadata=metadata)
        named = (features if name == "features" else name for name in FEATURE_SCHEMA.names)
        append_parquet(frame.select(*named).coalesce(1), self._table)

    def _check_provenance(self, parts: list[str], job: Job) -> None:
        schema = self._read(parts[:1]).schema
        found = provenance_of_column(
            schema["features"].metadata if "features" in schema.names else {}
        )
        if "fingerprint" not in found:
            raise TableError(f"{self._table} exists and is not a feature table: give another TABLE")
        if not job.overwrite:
            check_same_maker(self._table, found, job.provenance())

    def _read(self, parts: list[str]) -> DataFrame:
        return self._spark.read.parquet(*(f"{self._table.rstrip('/')}/{name}" for name in parts))

    def _parts(self) -> list[str]:
        return [n for n in self._names() if n.endswith(".parquet") and not is_hidden(n)]

    def _names(self) -> list[str]:
        folder = _path(self._spark, self._table)
        system = _system(self._spark, folder)
        if not system.exists(folder):
            return []
        return sorted(status.getPath().getName() for status in system.listStatus(folder))


def _belongs(name: str) -> bool:
    return name.endswith((".parquet", ".crc")) or name in {"_SUCCESS", "_temporary"}


def _path(spark: SparkSession, uri: str) -> Any:
    return spark.sparkContext._jvm.org.apache.hadoop.fs.Path(uri)  # type: ignore[union-attr]


def _system(spark: SparkSession, path: Any) -> Any:
    # The session's, not the context's: keys that a notebook sets with `spark.conf.set` are there.
    return path.getFileSystem(spark._jsparkSession.sessionState().newHadoopConf())
