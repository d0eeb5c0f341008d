"""The members of a tar file, plain or compressed by gzip."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Iterator
from typing import IO, cast

from pomona.errors import RunError
from pomona.source.archives.member import (
    Archive,
    Broken,
    Found,
    HardLink,
    Member,
    NotBytes,
    Packing,
    most_unpacked,
)

__all__ = ["tar_members"]

_BLOCK = tarfile.BLOCKSIZE
_PADDING = 20 * _BLOCK  # as GNU tar pads files
_MOST_HEADER = 2**20  # bytes of one extended header: names and attributes need far less


def tar_members(file: IO[bytes], archive: Archive) -> Iterator[tuple[str, Found]]:
    """Yield the name of each file in a tar file, and where it is.

    Only headers are read. If the tar file is compressed, all of it is unpacked for that.

    Args:
        file: the open archive.
        archive: the archive.

    Raises:
        Broken: the archive cannot be read from here on.
    """
    is_packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    headers = _Headers(cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if is_packed else file)
    packing = Packing.IN_STREAM if is_packed else Packing.PLAIN
    end = most_unpacked(archive.size) if is_packed else archive.size
    past_end = "would unpack to more than 100 times its size" if is_packed else "ends here"
    at = 0
    try:
        read = cast("IO[bytes]", headers)
        tar = tarfile.TarFile(fileobj=read, encoding="utf-8", errors="surrogateescape")
        while (found := tar.next()) is not None:
            if found.offset_data <= at or found.size < 0:
                raise Broken("its headers lead backwards")
            at = found.offset_data
            fits = at + found.size <= end
            if not found.isdir():
                place = _place(found, archive, packing)
                yield found.name, place if fits else NotBytes(f"the archive {past_end}")
            if not fits:
                raise Broken(f"it {past_end}")
            tar.members.clear()  # type: ignore[attr-defined] # it would keep them all
            if sum(map(len, tar.pax_headers.values())) > _MOST_HEADER:
                raise Broken("a header is too large")
        _check_end(headers, tar.offset)
    except Broken as broken:
        raise Broken(f"cannot be read after byte {at}: {broken}") from None
    except RunError:  # an object store fails
        raise
    except Exception as error:
        # Hostile bytes make `tarfile` and `gzip` raise errors of many kinds.
        raise Broken(f"cannot be read after byte {at}: {_in_words(error)}") from error


def _place(found: tarfile.TarInfo, archive: Archive, packing: Packing) -> Found:
    if found.islnk():
        return HardLink(found.linkname)
    if found.issym():
        return NotBytes(f"is a link to {found.linkname!r}: links in archives are not followed")
    if not found.isreg():
        return NotBytes("not a regular file")
    if found.issparse():
        return NotBytes("is stored as a sparse file: unpack the archive to read it")
    return Member(archive, found.offset_data, found.size, packing, found.size)


def _check_end(headers: _Headers, offset: int) -> None:
    """Check what made `tarfile` stop: it does not tell a damaged header from the end."""
    headers.seek(offset)
    mark, rest = headers.read(_BLOCK), headers.read(_PADDING)
    if not mark:
        raise Broken("its end is missing")
    if mark.strip(b"\0"):
        raise Broken("no header follows")
    if rest.strip(b"\0"):
        raise Broken("another archive follows its end: unpack it, or split it")


def _in_words(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__


class _Headers:
    """What `tarfile` reads. It refuses to read a large header as a whole into memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.tell = file.tell
        self.seek = file.seek

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MOST_HEADER:
            raise Broken("a header is too large")
        return self._file.read(size)
