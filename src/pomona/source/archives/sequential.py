"""An object that is read in order: the next blocks come while one is used."""

from __future__ import annotations

import io
from concurrent.futures import Future
from typing import Any

from pomona.source.object_file import ObjectFile
from pomona.source.read_ahead import reading_threads

__all__ = ["Sequential"]

_BLOCK = 4 * 2**20
_AHEAD = 3  # blocks


class Sequential(io.RawIOBase):
    """A file that reads ahead if its blocks are read in order.

    The threads that read images must not use it: it waits for them.
    """

    def __init__(self, file: ObjectFile) -> None:
        self._file = file
        self._at = 0
        self._number, self._block = -1, b""
        self._coming: dict[int, Future[bytes]] = {}

    def readinto(self, buffer: Any) -> int:
        """Read on from the current position, at most to the end of a block."""
        view = memoryview(buffer)
        number, start = divmod(self._at, _BLOCK)
        if number != self._number:
            self._go_to(number)
        content = self._block[start : start + len(view)]
        view[: len(content)] = content
        self._at += len(content)
        return len(content)

    def _go_to(self, number: int) -> None:
        coming = self._coming
        if number == self._number + 1 or number in coming:
            end = -(-self._file.size // _BLOCK)
            self._coming = {
                n: coming.pop(n) if n in coming else reading_threads().submit(self._read, n)
                for n in range(number, min(number + 1 + _AHEAD, end))
            }
        else:
            self._coming = {}
        for future in coming.values():
            future.cancel()
        block = self._coming.pop(number, None)
        self._block = block.result() if block else self._read(number)
        self._number = number

    def _read(self, number: int) -> bytes:
        return self._file.read_at(_BLOCK, number * _BLOCK)

    def close(self) -> None:
        """Drop what was read ahead."""
        for future in self._coming.values():
            future.cancel()
        self._coming, self._block = {}, b""
        super().close()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
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
