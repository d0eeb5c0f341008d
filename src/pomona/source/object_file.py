"""One object in a store as a file: each read is repeated if the store fails for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pyarrow as pa

from pomona.io.range_file import RangeFile
from pomona.io.remote import RemotePlace, StorageError, repeated
from pomona.messages import one_line
from pomona.source.remote_reader import RemoteReader

__all__ = ["ObjectFile"]

Result = TypeVar("Result")


class ObjectFile(RangeFile):
    """An object that is read in ranges. Several threads may call `read_at`.

    Opening it and reading raise `OSError` if the object cannot be read, and `RunError` if the store
    fails for all of them.

    Attributes:
        modified_ns: nanoseconds since 1970.
    """

    def __init__(self, place: RemotePlace, uri: str) -> None:
        self._place, self._uri = place, uri
        self._file, info = self._steady(self._connect)
        if not info.is_file:
            raise OSError("it no longer exists")
        super().__init__(info.size)
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

    def read_range(self, start: int, count: int) -> bytes:
        """Return bytes from a position on."""
        return self.read_at(count, start)
