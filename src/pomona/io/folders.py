"""A folder to read, on this machine or at a URI: names, bytes, Parquet files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pomona.io.file_systems import open_system
from pomona.io.remote import SteadyFile, lists_folders

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.fs import FileInfo, FileSystem

__all__ = ["ArrowFolder", "Entry", "Folder", "LocalFolder", "folder_at"]


class Entry(NamedTuple):
    """A name in a folder.

    Attributes:
        name: without the folder.
        is_folder: whether it is a folder.
        size: size of a file in bytes.
        modified: modification time of a file, in seconds since 1970.
    """

    name: str
    is_folder: bool
    size: int = 0
    modified: float = 0.0


class Folder(Protocol):
    """A folder that may or may not exist. All methods raise `OSError` if it cannot be read."""

    def __str__(self) -> str:
        """Its path or URI."""

    def parent(self) -> Folder | None:
        """Return the folder above; None at the top."""

    def child(self, name: str) -> Folder:
        """Return a folder in it."""

    def has(self, name: str) -> bool:
        """Return whether it contains a file or folder of that name."""

    def entries(self) -> Iterator[Entry]:
        """Return its entries in the order of their names; none if it is not a folder."""

    def read(self, name: str) -> bytes:
        """Return the bytes of a file in it."""

    def opened(self, name: str) -> Path | pa.NativeFile:
        """Return a file in it, in a form that PyArrow's readers accept."""


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A folder of this machine's file system."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def parent(self) -> LocalFolder | None:
        """Return the folder above."""
        above = self.path.absolute().parent
        return None if above == self.path.absolute() else LocalFolder(above)

    def child(self, name: str) -> LocalFolder:
        """Return a folder in it."""
        return LocalFolder(self.path / name)

    def has(self, name: str) -> bool:
        """Return whether a name exists in the folder."""
        return (self.path / name).exists()

    def entries(self) -> Iterator[Entry]:
        """Return its entries without broken links."""
        if not self.path.is_dir():
            return
        with os.scandir(self.path) as found:
            names = sorted(found, key=lambda entry: entry.name)
        for entry in names:
            try:
                status = entry.stat()
            except FileNotFoundError:
                continue
            yield Entry(entry.name, entry.is_dir(), status.st_size, status.st_mtime)

    def read(self, name: str) -> bytes:
        """Return the bytes of a file."""
        return (self.path / name).read_bytes()

    def opened(self, name: str) -> Path:
        """Return the file's absolute path: PyArrow reads a relative one like `run:2/x` as a URI."""
        return (self.path / name).absolute()


@dataclass(frozen=True, slots=True)
class ArrowFolder:
    """A folder of one of Arrow's file systems.

    Attributes:
        uri: its name, for people.
        system: the file system.
        path: the folder's path there.
    """

    uri: str
    system: FileSystem
    path: str

    def __str__(self) -> str:
        return self.uri

    def parent(self) -> ArrowFolder | None:
        """Return the folder above, within the bucket or the host."""
        above, _, name = self.path.rstrip("/").rpartition("/")
        if not name or not above or above.endswith(("/", ":")):
            return None
        return ArrowFolder(self.uri.rstrip("/").rpartition("/")[0], self.system, above)

    def child(self, name: str) -> ArrowFolder:
        """Return a folder in it."""
        return ArrowFolder(f"{self.uri}/{name}", self.system, f"{self.path}/{name}")

    def has(self, name: str) -> bool:
        """Return whether a name exists in the folder."""
        from pyarrow.fs import FileType

        info: FileInfo = self.system.get_file_info(f"{self.path}/{name}")
        return bool(info.type != FileType.NotFound)

    def entries(self) -> Iterator[Entry]:
        """Return its entries."""
        from pyarrow.fs import FileSelector, FileType

        deep = not lists_folders(self.uri)
        selector = FileSelector(self.path, allow_not_found=True, recursive=deep)
        found: dict[str, Entry] = {}
        for info in self.system.get_file_info(selector):
            path = info.path.rstrip("/")
            name, below = path.rpartition("/")[2], ""
            if deep:
                name, below, _ = path[len(self.path) + 1 :].partition("/")
            modified = info.mtime.timestamp() if info.mtime else 0.0
            is_folder = bool(below) or info.type == FileType.Directory
            found[name] = Entry(name, is_folder, info.size or 0, modified)
        yield from sorted(found.values())

    def read(self, name: str) -> bytes:
        """Return the bytes of a file."""
        with self.system.open_input_file(f"{self.path}/{name}") as file:
            content: bytes = file.read()
        return content

    def opened(self, name: str) -> pa.NativeFile:
        """Return the opened file; without a JVM, one that repeats reads that fail."""
        import pyarrow as pa

        path = f"{self.path}/{name}"
        if self.is_written_directly:
            return pa.PythonFile(SteadyFile(self.system, path), mode="r")
        return self.system.open_input_file(path)

    @property
    def is_written_directly(self) -> bool:
        """Whether it is in storage that is written without a JVM: an object store, or WebHDFS."""
        name = self.system.type_name
        return name in {"s3", "gcs", "abfs"} or name.startswith("py::fsspec")


def folder_at(uri: str, shown: str) -> ArrowFolder:
    """Return the folder of a URI on another file system.

    Args:
        uri: the URI.
        shown: the URI for people, without a password.

    Raises:
        OSError: its file system cannot be reached.
    """
    system, path = open_system(uri)
    return ArrowFolder(shown.partition("?")[0].rstrip("/"), system, path.rstrip("/"))
