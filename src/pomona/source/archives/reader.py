"""Reads the members of archives in a worker process."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import IO

from pomona.source.archives.member import Archive, Member, NotBytes, Packing, opened
from pomona.source.image_file import MAX_FILE_BYTES, Content, ImageFile, read_content

__all__ = ["MemberReader", "member_content", "stream_content"]

ReadAt = Callable[[int, int], bytes]
"""Returns a number of bytes at an offset of an archive, or fewer at its end."""

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of zip: the mark, and the lengths of name and extras
_ZIP_MARK = b"PK\x03\x04"


class MemberReader:
    """Reads members, and keeps the last archive open: its next member is often asked for next."""

    images_at_once = 64

    def __init__(self) -> None:
        self._archive: Archive | None = None
        self._file: IO[bytes] | None = None
        self._stream: gzip.GzipFile | None = None

    def __reduce__(self) -> tuple[type[MemberReader], tuple[()]]:
        """Pickle no open file."""
        return MemberReader, ()

    def read(self, files: Sequence[ImageFile]) -> Iterator[Content]:
        """Yield the content of each member, in order."""
        return map(self._read, files)

    def close(self) -> None:
        """Close the archive."""
        if self._file:
            self._file.close()
        self._archive = self._file = self._stream = None

    def __del__(self) -> None:
        """Close the archive."""
        self.close()

    def _read(self, file: ImageFile) -> Content:
        place = file.place
        if isinstance(place, NotBytes):
            return None, place.reason
        if not isinstance(place, Member):
            return read_content(file)
        if max(place.size, place.packed) > MAX_FILE_BYTES:
            return None, f"holds {place.size} bytes: no more than {MAX_FILE_BYTES} are read"
        try:
            return self._member(place)
        except (OSError, EOFError, zlib.error) as error:
            self.close()
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            return None, f"cannot be read from its archive: {reason}"

    def _member(self, place: Member) -> Content:
        archive = self._open(place.archive)
        if archive is None:
            return None, "cannot be read: its archive has changed during the run"
        if place.packing is Packing.IN_STREAM:
            if self._stream is None:
                self._stream = gzip.GzipFile(fileobj=archive)
            return stream_content(self._stream, place)
        return member_content(partial(os.pread, archive.fileno()), place)

    def _open(self, archive: Archive) -> IO[bytes] | None:
        """Return the archive; None if it is not the one that was listed."""
        if archive != self._archive:
            self.close()
            self._file, self._archive = opened(archive.path)
        return self._file if archive == self._archive else None


def member_content(read_at: ReadAt, place: Member) -> Content:
    """Read a member at its offset."""
    is_in_zip = place.crc is not None
    start = _start_in_zip(read_at, place.offset) if is_in_zip else place.offset
    if start is None:
        return None, "is damaged: its header is not one of zip"
    packed = read_at(place.packed, start)
    if len(packed) < place.packed:
        return None, "cannot be read: its archive ends before it does"
    if place.packing is Packing.DEFLATED:
        packed = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, place.size + 1)
    if is_in_zip and (len(packed), zlib.crc32(packed)) != (place.size, place.crc):
        return None, "is damaged: its checksum does not match"
    return packed, None


def stream_content(stream: gzip.GzipFile, place: Member) -> Content:
    """Read a member of a compressed tar file. Members in their order are unpacked once."""
    stream.seek(place.offset)
    content = stream.read(place.size)
    if len(content) < place.size:
        return None, "cannot be read: its archive ends before it does"
    return content, None


def _start_in_zip(read_at: ReadAt, offset: int) -> int | None:
    """Return where the bytes of a member begin: after a header whose length varies."""
    header = read_at(_LOCAL_HEADER.size, offset)
    if len(header) < _LOCAL_HEADER.size:
        return None
    mark, name, extra = _LOCAL_HEADER.unpack(header)
    return offset + _LOCAL_HEADER.size + name + extra if mark == _ZIP_MARK else None
