"""A file of which ranges are read, as a Python file object."""

from __future__ import annotations

import io
from abc import abstractmethod
from typing import Any

__all__ = ["RangeFile"]


class RangeFile(io.RawIOBase):
    """A file of known size. A subclass reads its ranges.

    Attributes:
        size: bytes.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._at = 0

    @abstractmethod
    def read_range(self, start: int, count: int) -> bytes:
        """Return `count` bytes from `start`, both within the file."""

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def seekable(self) -> bool:
        """Return that the position can be set."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position, and return it."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer from the position on; return the number of bytes."""
        view = memoryview(buffer)
        content = self.read(len(view))
        view[: len(content)] = content
        return len(content)

    def read(self, size: int = -1) -> bytes:
        """Return the bytes from the position on; all if `size` is negative."""
        left = max(self.size - self._at, 0)
        count = left if size < 0 else min(size, left)
        content = self.read_range(self._at, count) if count else b""
        self._at += len(content)
        return content
