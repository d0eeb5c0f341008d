"""Images on a Hadoop file system: `s3a://`, `hdfs://`, `abfss://`, ...

All access goes through the driver's JVM, so that the cluster's credentials and settings apply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pomona.errors import SourceError
from pomona.io.folders import ArrowFolder
from pomona.io.location import is_remote
from pomona.io.remote import same_scheme
from pomona.messages import one_line
from pomona.schema import INPUT_SCHEMA
from pomona.source.image_file import ImageFile, is_for_spark
from pomona.source.listing import Listing
from pomona.source.passed_over import PassedOver
from pomona.source.selection import Selected, SourceGlob
from pomona.source.walk import folders_above, has_parent_in
from pomona.spark.binary_files import can_list_files
from pomona.spark.storage.hadoop.arrow import HadoopHandler
from pomona.spark.storage.hadoop.listing import HadoopListing

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from pomona.job.job import JobPaths
    from pomona.source.images import Reader
    from pomona.source.labels import LabelRule

__all__ = ["HadoopImageStore", "hadoop_folder", "hadoop_path", "hadoop_system"]

_LARGEST_READ = 256 * 2**20  # bytes of a file that are read into this process through the JVM


class HadoopImageStore:
    """Images on a Hadoop file system."""

    reader: Reader | None = None  # only the JVMs of the executors have its settings and credentials

    def __init__(self, paths: JobPaths, spark: SparkSession) -> None:
        self._paths = paths
        self._spark = spark
        self._roots: set[str] = set()  # as `same_scheme`, without a slash at the end
        # Files of a table in the source are not images.
        self._table = f"{_qualified(spark, paths.table)}/" if is_remote(paths.table) else None
        self.listing = Listing(paths.source, self._files, self._is_gone, self._digest)

    def for_workers(self, files: Iterable[ImageFile]) -> list[ImageFile]:
        """Return files that Spark can read."""
        return [
            file
            for file in files
            if is_for_spark(file) and (file.has_name_for_spark or self._reads_any_name)
        ]

    @cached_property
    def _reads_any_name(self) -> bool:
        return can_list_files(self._spark)

    def can_be_opened(self, file: ImageFile) -> bool:
        """Return whether the driver can open a file."""
        return self._content(file, most=1)[1] is None  # a store answers only when a byte is read

    def read(self, files: Iterable[ImageFile], label: LabelRule) -> Iterator[pa.RecordBatch]:
        """Read files that Spark left out, through the driver's JVM; record why one is bad."""
        for file in files:
            if (file.size or 0) > _LARGEST_READ:
                content, error = (
                    None,
                    f"holds {file.size} bytes: too large for Spark and for the driver",
                )
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
        """Return the SHA-256 of a file, computed in the driver's JVM; None if it is unreadable."""
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
        """Return the bytes of a file, at most `most`, or the reason why it cannot be read."""
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
            if glob.has_open_dot(root):  # Hadoop's wildcards match a leading dot
                continue
            if has_parent_in(same_scheme(root), self._roots):
                continue  # a glob can match a folder and its content
            self._roots.add(same_scheme(root.rstrip("/")))
            selected = Selected(self._paths.selection, glob, root, passed_over)
            if not selected.has_root(is_folder=status.isDirectory()):
                continue
            if status.isFile():  # the user named it: its name does not matter
                yield ImageFile(root, status.getLen(), status.getModificationTime())
                continue
            for file in listing.files(system.listFiles(status.getPath(), True)):
                if not self._is_of_table(file.path) and selected.takes(file.path):
                    yield file

    def _is_of_table(self, path: str) -> bool:
        return self._table is not None and same_scheme(path).startswith(same_scheme(self._table))

    def _is_gone(self, uri: str) -> bool:
        """Return whether the file of a row is no longer an image of the source.

        Excluded files count as gone. If the source cannot be read, the listing has raised already.
        """
        uri = same_scheme(uri)
        if uri in self._roots:
            return True
        root = next((above for above in folders_above(uri) if above in self._roots), None)
        if root is None or self._is_of_table(uri):
            return False
        return self._paths.selection.chooses(uri[len(root) :].lstrip("/"))


def hadoop_path(spark: SparkSession, uri: str) -> Any:
    """Return Hadoop's `Path` of a URI."""
    return spark.sparkContext._jvm.org.apache.hadoop.fs.Path(uri)  # type: ignore[union-attr]


def _qualified(spark: SparkSession, uri: str) -> str:
    """Return a URI as Hadoop shows paths, with the file system's scheme and authority."""
    path = hadoop_path(spark, uri)
    shown: str = hadoop_system(spark, path).makeQualified(path).toString()
    return shown


def hadoop_system(spark: SparkSession, path: Any) -> Any:
    """Return Hadoop's `FileSystem` of a path."""
    # The session's settings, not the context's, contain keys that were set with `spark.conf.set`.
    return path.getFileSystem(spark._jsparkSession.sessionState().newHadoopConf())


def hadoop_folder(spark: SparkSession, uri: str) -> ArrowFolder:
    """Return a folder that is read with the session's settings and credentials."""
    from pyarrow.fs import PyFileSystem

    settings = spark._jsparkSession.sessionState().newHadoopConf()
    system = PyFileSystem(HadoopHandler(settings, spark.sparkContext._jvm))
    return ArrowFolder(uri.rstrip("/"), system, uri.rstrip("/"))
