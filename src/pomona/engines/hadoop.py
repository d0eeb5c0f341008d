"""Images on a file system that Hadoop knows: `s3a://`, `hdfs://`, `abfss://`, ...

All access goes through the JVM of the driver, so that the cluster's credentials and settings hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pomona.errors import SourceError
from pomona.schema import INPUT_SCHEMA
from pomona.source import MAX_FILE_BYTES, ImageFile, Listing, is_chosen, is_hidden

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import SparkSession

    from pomona.engines.job import JobPaths
    from pomona.labels import LabelRule

__all__ = ["HadoopImages", "hadoop_path", "hadoop_system"]


class HadoopImages:
    """Images on a Hadoop file system."""

    def __init__(self, paths: JobPaths, spark: SparkSession) -> None:
        self._paths = paths
        self._spark = spark
        self._roots: list[str] = []
        self.listing = Listing(paths.source, self._files, self._is_gone)

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
        folder = hadoop_path(self._spark, self._paths.source)
        system = hadoop_system(self._spark, folder)
        roots = system.globStatus(folder)
        if not roots:
            raise SourceError(f"{self._paths.source} does not exist: give a folder or a glob")
        for status in sorted(roots, key=lambda status: str(status.getPath().toString())):
            root = status.getPath().toString()
            self._roots.append(root)
            if status.isFile():  # named by the user, whatever its name
                yield ImageFile(root, status.getLen(), status.getModificationTime())
                continue
            found = system.listFiles(status.getPath(), True)
            while found.hasNext():
                file = found.next()
                path = file.getPath().toString()
                if self._takes(path, root):
                    yield ImageFile(path, file.getLen(), file.getModificationTime())

    def _takes(self, path: str, root: str) -> bool:
        relative = path[len(root) :].lstrip("/")
        hidden = any(map(is_hidden, relative.split("/")))
        return not hidden and is_chosen(relative, self._paths.globs)

    def _is_gone(self, uri: str) -> bool:
        """Whether the listing, which raises where it cannot see, would have shown it."""
        return any(
            uri == root or (uri.startswith(f"{root.rstrip('/')}/") and self._takes(uri, root))
            for root in self._roots
        )


def hadoop_path(spark: SparkSession, uri: str) -> Any:
    """Hadoop's `Path`."""
    return spark.sparkContext._jvm.org.apache.hadoop.fs.Path(uri)  # type: ignore[union-attr]


def hadoop_system(spark: SparkSession, path: Any) -> Any:
    """Hadoop's `FileSystem` of a path."""
    # The session's, not the context's: keys that a notebook sets with `spark.conf.set` are there.
    return path.getFileSystem(spark._jsparkSession.sessionState().newHadoopConf())
