"""Images on a file system that Hadoop knows: `s3a://`, `hdfs://`, `abfss://`, ...

All access goes through the JVM of the driver, so that the cluster's credentials and settings hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pomona.errors import SourceError
from pomona.io.folders import ArrowFolder
from pomona.io.location import is_remote
from pomona.messages import one_line
from pomona.schema import INPUT_SCHEMA
from pomona.source.image_file import ImageFile, is_for_spark
from pomona.source.listing import Listing
from pomona.source.passed_over import PassedOver
from pomona.source.selection import Selected, SourceGlob
from pomona.source.walk import folders_above, has_parent_in
from pomona.spark.named_files import can_read_any_name
from pomona.spark.storage.hadoop.arrow import HadoopHandler
from pomona.spark.storage.hadoop.listing import HadoopListing

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from pomona.job.job import JobPaths
    from pomona.source.labels import LabelRule

__all__ = ["HadoopImageStore", "hadoop_folder", "hadoop_path", "hadoop_system"]

_LARGEST_READ = 256 * 2**20  # bytes of a file that come through the JVM into this process


class HadoopImageStore:
    """Images on a Hadoop file system."""

    def __init__(self, paths: JobPaths, spark: SparkSession) -> None:
        self._paths = paths
        self._spark = spark
        self._roots: set[str] = set()  # without a slash in the end
        # A table that lies in the source is no image.
        self._table = f"{_qualified(spark, paths.table)}/" if is_remote(paths.table) else None
        self.listing = Listing(paths.source, self._files, self._is_gone, self._digest)

    def present(self, files: Iterable[ImageFile]) -> list[ImageFile]:
        """Files that suit Spark; asking for each whether it is still there would take long."""
        return [
            file
            for file in files
            if is_for_spark(file) and (file.has_name_for_spark or self._reads_any_name)
        ]

    @cached_property
    def _reads_any_name(self) -> bool:
        return can_read_any_name(self._spark)

    def exists(self, file: ImageFile) -> bool:
        """Whether it is there."""
        path = hadoop_path(self._spark, file.path)
        found: bool = hadoop_system(self._spark, path).exists(path)
        return found

    def can_be_opened(self, file: ImageFile) -> bool:
        """Whether the driver can open it."""
        return self._content(file, most=1)[1] is None  # a store answers when a byte is asked for

    def read(self, files: Iterable[ImageFile], label: LabelRule) -> Iterator[pa.RecordBatch]:
        """Read what Spark left out, through the driver's JVM, or find out why it cannot be."""
        for file in files:
            if (file.size or 0) > _LARGEST_READ:
                content, error = None, f"holds {file.size} bytes: too large for Spark, and for here"
            elif file.size == 0:
                content, error = b"", None
            else:
                content, error = self._content(file, _LARGEST_READ)
            row = {
                "path": file.uri,
                "label": label(file.uri),
                "size": file.size,
                "modified": file.modified and file.modified * 1000,
                "content": content,
                "read_error": error,
            }
            yield pa.RecordBatch.from_pylist([row], INPUT_SCHEMA)

    def _digest(self, file: ImageFile) -> str | None:
        """SHA-256 of a file's bytes, computed in the driver's JVM; None if it cannot be read."""
        from py4j.protocol import Py4JJavaError

        jvm: Any = self._spark.sparkContext._jvm
        try:
            path = hadoop_path(self._spark, file.path)
            stream = hadoop_system(self._spark, path).open(path)
            try:
                found: str = jvm.org.apache.commons.codec.digest.DigestUtils.sha256Hex(stream)
                return found
            finally:
                stream.close()
        except Py4JJavaError:
            return None

    def _content(self, file: ImageFile, most: int) -> tuple[bytes | None, str | None]:
        """The bytes of a file, up to a number of them, or why it cannot be read."""
        from py4j.protocol import Py4JJavaError

        try:
            path = hadoop_path(self._spark, file.path)
            stream = hadoop_system(self._spark, path).open(path)
            try:
                return bytes(stream.readNBytes(most)), None
            finally:
                stream.close()
        except Py4JJavaError as error:
            reason = error.java_exception.getMessage() or error.java_exception.toString()
            return None, f"cannot be read: {one_line(reason)}"

    def _files(
        self, _on_error: Callable[[OSError], None], passed_over: PassedOver
    ) -> Iterator[ImageFile]:
        folder = hadoop_path(self._spark, self._paths.source)
        system = hadoop_system(self._spark, folder)
        roots = system.globStatus(folder)
        if not roots:
            raise SourceError(f"{self._paths.source} does not exist: give a folder or a glob")
        pattern = _qualified(self._spark, self._paths.source)
        named = sorted((str(status.getPath().toString()), status) for status in roots)
        is_glob = pattern not in {root for root, _ in named}
        glob = SourceGlob(pattern, is_glob, has_braces=True)
        listing = HadoopListing(self._spark)
        passed_over.expect(self._paths.selection.exclude)
        for root, status in named:
            if glob.has_open_dot(root):  # Hadoop's wildcards match it
                continue
            if has_parent_in(root, self._roots):
                continue  # a glob that matches a folder and what is in it
            self._roots.add(root.rstrip("/"))
            selected = Selected(self._paths.selection, glob, root, passed_over)
            if not selected.has_root(is_folder=status.isDirectory()):
                continue
            if status.isFile():  # named by the user: any name
                yield ImageFile(root, status.getLen(), status.getModificationTime())
                continue
            for file in listing.files(system.listFiles(status.getPath(), True)):
                if not self._is_of_table(file.path) and selected.takes(file.path):
                    yield file

    def _is_of_table(self, path: str) -> bool:
        return self._table is not None and path.startswith(self._table)

    def _is_gone(self, uri: str) -> bool:
        """Whether the listing would have shown it; the listing raises if it cannot see.

        What is excluded counts as gone.
        """
        if uri in self._roots:
            return True
        root = next((above for above in folders_above(uri) if above in self._roots), None)
        if root is None or self._is_of_table(uri):
            return False
        return self._paths.selection.chooses(uri[len(root) :].lstrip("/"))


def hadoop_path(spark: SparkSession, uri: str) -> Any:
    """Hadoop's `Path`."""
    return spark.sparkContext._jvm.org.apache.hadoop.fs.Path(uri)  # type: ignore[union-attr]


def _qualified(spark: SparkSession, uri: str) -> str:
    """A URI as Hadoop shows paths, with the file system's own scheme and authority."""
    path = hadoop_path(spark, uri)
    shown: str = hadoop_system(spark, path).makeQualified(path).toString()
    return shown


def hadoop_system(spark: SparkSession, path: Any) -> Any:
    """Hadoop's `FileSystem` of a path."""
    # The session's, not the context's: keys that a notebook sets with `spark.conf.set` are there.
    return path.getFileSystem(spark._jsparkSession.sessionState().newHadoopConf())


def hadoop_folder(spark: SparkSession, uri: str) -> ArrowFolder:
    """A folder to look into, by the session's own settings and credentials."""
    from pyarrow.fs import PyFileSystem

    settings = spark._jsparkSession.sessionState().newHadoopConf()
    system = PyFileSystem(HadoopHandler(settings, spark.sparkContext._jvm))
    return ArrowFolder(uri.rstrip("/"), system, uri.rstrip("/"))
