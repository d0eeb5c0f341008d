"""Hadoop's file systems as a read-only Arrow file system, through the JVM of PySpark.

Arrow reads HDFS through Hadoop's native library, which neither package contains. PySpark contains
Hadoop's Java classes, which read every file system that the cluster is configured for.
"""

from __future__ import annotations

import atexit
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pyarrow as pa
from pyarrow.fs import FileInfo, FileSelector, FileSystemHandler, FileType

from pomona.extras import install_command
from pomona.io.range_file import RangeFile
from pomona.messages import one_line

__all__ = ["HadoopHandler"]


class HadoopHandler(FileSystemHandler):  # type: ignore[misc]
    """Reads files by their URIs. Each method raises `OSError` if Hadoop refuses."""

    def __init__(self, configuration: Any, jvm: Any) -> None:
        """Take Hadoop's `Configuration` and py4j's view of its JVM."""
        self._configuration = configuration
        self._hadoop = jvm.org.apache.hadoop.fs

    @classmethod
    def of_this_process(cls) -> HadoopHandler:
        """Use the JVM of the active Spark session, or start one that runs no Spark.

        Raises:
            OSError: PySpark or Java is missing, or the JVM does not start.
        """
        try:
            from pyspark import SparkContext
        except ImportError as error:
            raise OSError(
                "PySpark, which contains Hadoop's classes, is not installed: "
                f"{install_command('spark')}"
            ) from error
        active: Any = SparkContext._active_spark_context
        if active is not None:
            return cls(active._jsc.hadoopConfiguration(), active._jvm)
        jvm = _own_gateway().jvm
        hadoop_util = jvm.org.apache.spark.deploy.SparkHadoopUtil
        settings = jvm.org.apache.spark.SparkConf()  # has the `spark.hadoop.*` of spark-defaults
        return cls(hadoop_util.get().newConfiguration(settings), jvm)

    def get_type_name(self) -> str:
        """Return the name that Arrow shows."""
        return "hadoop"

    def get_file_info(self, paths: list[str]) -> list[FileInfo]:
        """Return the files or folders at some URIs."""
        return [self._info(path) for path in paths]

    def get_file_info_selector(self, selector: FileSelector) -> list[FileInfo]:
        """Return the entries of a folder, without those of its subfolders."""
        with os_errors():
            system, path = self._of(selector.base_dir)
            if not system.exists(path):
                if selector.allow_not_found:
                    return []
                raise FileNotFoundError(f"{selector.base_dir} does not exist")
            return [_as_info(s.getPath().toString(), s) for s in system.listStatus(path)]

    def open_input_file(self, path: str) -> pa.PythonFile:
        """Open a file for random access."""
        with os_errors():
            system, location = self._of(path)
            size = system.getFileStatus(location).getLen()
            return pa.PythonFile(_HadoopFile(system.open(location), size), mode="r")

    open_input_stream = open_input_file

    def normalize_path(self, path: str) -> str:
        """Return the URI unchanged."""
        return path

    def _of(self, uri: str) -> tuple[Any, Any]:
        path = self._hadoop.Path(uri)
        return path.getFileSystem(self._configuration), path

    def _info(self, uri: str) -> FileInfo:
        with os_errors():
            system, path = self._of(uri)
            if not system.exists(path):
                return FileInfo(uri, FileType.NotFound)
            return _as_info(uri, system.getFileStatus(path))

    def _refused(self, *_: Any, **__: Any) -> Any:
        raise OSError("Hadoop's file systems are read-only here")

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = _refused
    delete_file = move = copy_file = open_output_stream = open_append_stream = _refused


class _HadoopFile(RangeFile):
    """A file on a Hadoop file system."""

    def __init__(self, stream: Any, size: int) -> None:
        super().__init__(size)
        self._stream = stream

    def read_range(self, start: int, count: int) -> bytes:
        with os_errors():
            self._stream.seek(start)
            return bytes(self._stream.readNBytes(count))

    def close(self) -> None:
        if not self.closed:
            super().close()
            with os_errors():
                self._stream.close()


def _as_info(uri: str, status: Any) -> FileInfo:
    if status.isDirectory():
        return FileInfo(uri, FileType.Directory)
    seconds = status.getModificationTime() / 1000
    return FileInfo(uri, FileType.File, size=status.getLen(), mtime=seconds)


@contextmanager
def os_errors() -> Iterator[None]:
    """Convert Hadoop's exceptions to `OSError`, with the innermost cause in one line."""
    from py4j.protocol import Py4JError, Py4JJavaError
    from pyspark.errors import PySparkException

    try:
        yield
    except Py4JJavaError as error:
        cause = error.java_exception
        while (inner := cause.getCause()) is not None:
            cause = inner
        raise OSError(one_line(cause.toString(), 300)) from error
    except (Py4JError, PySparkException) as error:  # a session turns some into PySpark's own
        raise OSError(one_line(error, 300)) from error


@cache
def _own_gateway() -> Any:
    """Return a gateway to a JVM with Spark's classes but no Spark; both end with this process."""
    from pyspark.java_gateway import launch_gateway

    launch: Any = launch_gateway  # it has no types
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        gateway = launch(popen_kwargs=quiet)
    except Exception as error:  # PySpark and py4j have no common base class
        raise OSError(f"a JVM could not start: {one_line(error)}") from error
    atexit.register(_end, gateway)
    return gateway


def _end(gateway: Any) -> None:
    process = getattr(gateway, "proc", None)
    if process is not None:  # None in spark-submit, which owns the JVM
        gateway.shutdown()
        process.stdin.close()  # the JVM then ends
        process.wait()
