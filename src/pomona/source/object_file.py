"""One object in a store as a file: each read is repeated if the store fails for a while."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, TypeVar

import pyarrow as pa

from pomona.io.remote import RemotePlace, StorageError, repeated
from pomona.messages import one_line
from pomona.source.remote_reader import RemoteReader

__all__ = ["ObjectFile"]

Result = TypeVar("Result")


class ObjectFile(io.RawIOBase):
    """An object that is read in ranges. Several threads may call `read_at`.

    Opening it and reading raise `OSError` if the object cannot be read, and `RunError` if the store
    fails for all of them.

    Attributes:
        size: bytes.
        modified_ns: nanoseconds since 1970.
    """

    def __init__(self, place: RemotePlace, uri: str) -> None:
        self._place, self._uri, self._at = place, uri, 0
        self._file, info = self._steady(self._connect)
        if not info.is_file:
            raise OSError("it no longer exists")
        self.size: int = info.size
        self.modified_ns: int = info.mtime_ns or 0

    def _connect(self) -> tuple[pa.NativeFile, pa.fs.FileInfo]:
        system, path = self._place.system(), self._place.path(self._uri)
        return system.open_input_file(path), system.get_file_info(path)

    def _steady(self, call: Callable[[], Result]) -> Result:
        try:
            return repeated(call, f"read {self._uri}")
        except StorageError as failure:
            raise OSError(RemoteReader(self._place).reason(self._uri, failure)) from failure
        except pa.ArrowInvalid as error:
            raise OSError(one_line(error)) from error

    def read_at(self, size: int, offset: int) -> bytes:
        """Return bytes at an offset, or fewer at the end."""
        size = max(0, min(size, self.size - offset))
        return self._steady(lambda: bytes(self._file.read_at(size, offset))) if size else b""

    def readinto(self, buffer: Any) -> int:
        """Read on from the current position."""
        view = memoryview(buffer)
        content = self.read_at(len(view), self._at)
        view[: len(content)] = content
        self._at += len(content)
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def seekable(self) -> bool:
        """Whether the position can be moved."""
        return True
