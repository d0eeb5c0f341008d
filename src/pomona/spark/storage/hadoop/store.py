"""The files of a table on a Hadoop file system, through the driver's JVM."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar

from pomona.errors import TableError
from pomona.io.folders import Entry
from pomona.spark.storage.hadoop.arrow import os_errors
from pomona.spark.storage.hadoop.filesystem import hadoop_path, hadoop_system

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["HadoopStore"]


class HadoopStore:
    """A folder of a Hadoop file system. Some systems move a file by copying and deleting it."""

    moves_whole: ClassVar[bool] = False

    def __init__(self, table: str, spark: SparkSession) -> None:
        self._table = table.rstrip("/")
        self._spark = spark

    def __str__(self) -> str:
        return self._table

    @contextmanager
    def without_empty_folder(self) -> Iterator[None]:
        """Delete the table's folder at the end if it is new, and nothing is in it."""
        folder = self._path("")
        with _as_table_error("list", folder):
            is_new = not hadoop_system(self._spark, folder).exists(folder)
        try:
            yield
        finally:
            if is_new and not self.entries():
                with _as_table_error("delete", folder):
                    hadoop_system(self._spark, folder).delete(folder, False)

    def entries(self, place: str = "") -> dict[str, Entry]:
        """Return the entries of a place, by name."""
        folder = self._path(place)
        with _as_table_error("list", folder):
            system = hadoop_system(self._spark, folder)
            found = system.listStatus(folder) if system.exists(folder) else []
            entries = [
                Entry(
                    status.getPath().getName(),
                    status.isDirectory(),
                    status.getLen(),
                    status.getModificationTime() / 1000,
                )
                for status in found
            ]
        return {entry.name: entry for entry in sorted(entries)}

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        path = self._path(name)
        with _as_table_error("read", path):
            stream = hadoop_system(self._spark, path).open(path)
            try:
                return bytes(stream.readAllBytes())
            finally:
                stream.close()

    def write(self, name: str, content: bytes) -> None:
        """Write a draft and rename it. An existing file is overwritten in place."""
        path = self._path(name)
        with _as_table_error("write", path):
            system = hadoop_system(self._spark, path)
            place, _, file = name.rpartition("/")
            draft = f"{place}/.{file}.partial".lstrip("/")
            is_new = not system.exists(path)
            stream = system.create(self._path(draft) if is_new else path, True)
            try:
                stream.write(bytearray(content))
            finally:
                stream.close()
        if is_new:
            self._rename(draft, name)

    def sync(self, names: Iterable[str]) -> None:
        """Do nothing: a closed file is on the storage."""

    def move(self, names: Iterable[str], source: str, target: str) -> None:
        """Rename files."""
        for name in names:
            self._rename(f"{source}/{name}".lstrip("/"), f"{target}/{name}".lstrip("/"))

    def delete(self, names: Iterable[str]) -> None:
        """Delete files.

        Raises:
            TableError: a file still exists.
        """
        for name in names:
            path = self._path(name)
            with _as_table_error("delete", path):
                system = hadoop_system(self._spark, path)
                is_there = not system.delete(path, False) and system.exists(path)
            if is_there:
                raise TableError(f"cannot delete {path.toString()}: check its permissions")

    def make_place(self, place: str) -> None:
        """Do nothing: writing a file creates its folders."""

    def remove_place(self, place: str) -> None:
        """Delete a folder. If the storage fails, the next run deletes it."""
        path = self._path(place)
        with suppress(TableError), _as_table_error("delete", path):
            hadoop_system(self._spark, path).delete(path, True)

    def _rename(self, old: str, new: str) -> None:
        """Rename a file, replacing an existing one, which Hadoop refuses to do.

        After an interrupted rename that copies, both names exist, and the new file may be cut off.
        """
        source, target = self._path(old), self._path(new)
        with _as_table_error("rename", source):
            system = hadoop_system(self._spark, source)
            if _renamed(system, source, target):
                return
            exists = system.exists(target)
            if exists and not system.exists(source):
                return  # it was renamed, but the reply was lost
        if exists:
            self.delete([new])
            with _as_table_error("rename", source):
                if _renamed(system, source, target):
                    return
        raise TableError(f"cannot rename {source.toString()} to {target.toString()}")

    def _path(self, name: str) -> Any:
        return hadoop_path(self._spark, f"{self._table}/{name}" if name else self._table)


def _renamed(system: Any, source: Any, target: Any) -> bool:
    """Rename, and return whether it succeeded. If the name exists, some systems raise."""
    from py4j.protocol import Py4JJavaError

    try:
        done: bool = system.rename(source, target)
    except Py4JJavaError:
        if system.exists(target):
            return False
        raise
    return done


@contextmanager
def _as_table_error(act: str, path: Any) -> Iterator[None]:
    """Convert errors of a Hadoop file system to a `TableError` with the reason."""
    try:
        with os_errors():
            yield
    except OSError as error:
        raise TableError(f"cannot {act} {path.toString()}: {error}") from error
