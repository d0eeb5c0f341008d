"""The members of a zip file."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from typing import IO

from pomona.errors import RunError
from pomona.source.archives.member import (
    Archive,
    Broken,
    Found,
    Member,
    NotBytes,
    Packing,
    most_unpacked,
)

__all__ = ["zip_members"]

_MOST_DIRECTORY = 256 * 2**20  # bytes: two million members; they take 2 GB of memory
_ENCRYPTED = 0x1
_PACKINGS = {zipfile.ZIP_STORED: Packing.PLAIN, zipfile.ZIP_DEFLATED: Packing.DEFLATED}
_IS_UTF8 = 0x800
_UNIX = 3


def zip_members(file: IO[bytes], archive: Archive) -> Iterator[tuple[str, Found]]:
    """Yield the name of each file in a zip file, and where it is. Only its directory is read.

    Args:
        file: the open archive.
        archive: the archive.

    Raises:
        Broken: it has no directory that can be read.
    """
    try:
        found = zipfile.ZipFile(_Directory(file)).infolist()
    except Broken:
        raise
    except RunError:  # an object store fails
        raise
    except Exception as error:
        # Hostile bytes make `zipfile` raise errors of many kinds.
        raise Broken(f"cannot be read: {str(error) or type(error).__name__}") from error
    for info in found:
        name = _name(info)
        if not name.endswith("/"):
            yield name, _place(info, archive)


def _name(info: zipfile.ZipInfo) -> str:
    """Return the name of a member.

    Many tools write UTF-8 without a flag for it. Which of them Python recognizes depends on its
    version.
    """
    name = info.orig_filename
    if not info.flag_bits & _IS_UTF8:
        with suppress(ValueError):  # it is another encoding: nothing says which
            name = name.encode("cp437").decode("utf-8")
    return name.partition("\0")[0]


def _place(info: zipfile.ZipInfo, archive: Archive) -> Found:
    packing = _PACKINGS.get(info.compress_type)
    if info.create_system == _UNIX and stat.S_ISLNK(info.external_attr >> 16):
        return NotBytes("is a link: links in archives are not followed")
    if info.flag_bits & _ENCRYPTED:
        return NotBytes("is encrypted: unpack the archive to read it")
    if packing is None:
        return NotBytes(
            f"is compressed by method {info.compress_type} of zip: expected stored or deflated"
        )
    if packing is Packing.DEFLATED and info.file_size > most_unpacked(info.compress_size):
        return NotBytes("would unpack to more than 100 times its size")
    if info.header_offset < 0 or info.header_offset + info.compress_size > archive.size:
        return NotBytes("lies outside of the archive")
    size, packed = info.file_size, info.compress_size
    return Member(archive, info.header_offset, size, packing, packed, info.CRC)


class _Directory:
    """What `zipfile` reads. It refuses a directory that would take too much memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.tell = file.tell
        self.seek = file.seek
        self.seekable = file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > _MOST_DIRECTORY:
            raise Broken(f"its directory has {size} bytes: at most {_MOST_DIRECTORY} are read")
        return self._file.read(size)
