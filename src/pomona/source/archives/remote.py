"""Archives in object stores: read in ranges, and each read is repeated if the store fails."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import IO, cast

from pomona.io.remote import RemotePlace
from pomona.source.archives.member import Archive, Member, NotBytes, stream_of
from pomona.source.archives.reader import ReadAt, member_content, stream_content
from pomona.source.archives.sequential import Sequential
from pomona.source.image_file import MAX_FILE_BYTES, Content, ImageFile, read_content
from pomona.source.object_file import ObjectFile
from pomona.source.read_ahead import read_groups_ahead

__all__ = ["RemoteMemberReader", "opened_in"]

_BUFFER = 2**16
_JOINED = 4 * 2**20  # bytes of one request: 40 ms at 100 MB/s, and an answer takes 25 ms
_GAP = 2**16  # between two members of one request: headers, labels and other small files
_ZIP_HEADER = 1024  # before the bytes of a member: 30 bytes, its name, and attributes
_ARCHIVES = 4  # kept open


def opened_in(place: RemotePlace, uri: str) -> tuple[IO[bytes], Archive]:
    """Open an archive in an object store.

    Raises:
        OSError: it cannot be read.
        RunError: the store fails.
    """
    file = ObjectFile(place, uri)
    return _buffered(file), Archive(uri, file.size, file.modified_ns, place)


def _buffered(file: ObjectFile) -> IO[bytes]:
    return cast("IO[bytes]", io.BufferedReader(Sequential(file), _BUFFER))


class RemoteMemberReader:
    """Reads members of archives in object stores, many at once, ahead of the network.

    Neighbours in an archive are read by one request. Members of a stream are not read ahead, but
    its blocks are.
    """

    images_at_once = 256

    def __init__(self) -> None:
        self._opened = lru_cache(_ARCHIVES)(ObjectFile)
        self._streamed: Archive | None = None
        self._stream: gzip.GzipFile | None = None

    def __reduce__(self) -> tuple[type[RemoteMemberReader], tuple[()]]:
        """Pickle no open file."""
        return RemoteMemberReader, ()

    def read(self, files: Sequence[ImageFile]) -> Iterator[Content]:
        """Yield the content of each member, in order.

        Raises:
            RunError: the store fails for all archives.
        """
        return read_groups_ahead(
            _neighbours(files), self._contents, lambda file: stream_of(file.place) is None
        )

    def close(self) -> None:
        """Close the archives."""
        self._opened.cache_clear()
        self._streamed = self._stream = None

    def _contents(self, group: Sequence[ImageFile]) -> list[Content]:
        """Return the content of members that one request reads."""
        try:
            read_at = self._joined(group) if len(group) > 1 else None
        except OSError as error:
            return [(None, f"cannot be read from its archive: {error}")] * len(group)
        return [self._content(file, read_at) for file in group]

    def _content(self, file: ImageFile, read_at: ReadAt | None) -> Content:
        place = file.place
        if isinstance(place, NotBytes):
            return None, place.reason
        if not isinstance(place, Member) or place.archive.place is None:
            return read_content(file)  # the known image that shows whether a worker works
        if max(place.size, place.packed) > MAX_FILE_BYTES:
            return None, f"holds {place.size} bytes: no more than {MAX_FILE_BYTES} are read"
        try:
            return self._member(self._open(place.archive), place, read_at)
        except (OSError, EOFError, zlib.error) as error:
            self._streamed = None
            return None, f"cannot be read from its archive: {error}"

    def _member(self, file: ObjectFile, place: Member, read_at: ReadAt | None) -> Content:
        listed = place.archive
        if (file.size, file.modified_ns) != (listed.size, listed.modified_ns):
            return None, "cannot be read: its archive has changed during the run"
        if stream_of(place):
            return stream_content(self._stream_of(listed, file), place)
        return member_content(read_at or _read_once(file, place.offset, _end(place)), place)

    def _joined(self, group: Sequence[ImageFile]) -> ReadAt:
        first, last = group[0].place, group[-1].place
        assert isinstance(first, Member)  # noqa: S101 - for the type checker
        assert isinstance(last, Member)  # noqa: S101
        return _read_once(self._open(first.archive), first.offset, _end(last))

    def _open(self, archive: Archive) -> ObjectFile:
        assert archive.place is not None  # noqa: S101 - for the type checker
        return self._opened(archive.place, archive.path)

    def _stream_of(self, archive: Archive, file: ObjectFile) -> gzip.GzipFile:
        if self._stream is None or archive != self._streamed:
            self._streamed, self._stream = archive, gzip.GzipFile(fileobj=_buffered(file))
        return self._stream


def _neighbours(files: Iterable[ImageFile]) -> Iterator[list[ImageFile]]:
    """Divide members into groups that one request reads each, in order."""
    group: list[ImageFile] = []
    for file in files:
        if group and not _are_joined(group[0].place, group[-1].place, file.place):
            yield group
            group = []
        group.append(file)
    if group:
        yield group


def _are_joined(first: object, last: object, new: object) -> bool:
    """Return whether one request reads a member too, after the first and the last one so far."""
    if not (isinstance(first, Member) and isinstance(last, Member) and isinstance(new, Member)):
        return False
    return (
        new.archive == last.archive
        and stream_of(new) is None
        and 0 <= new.offset - last.offset - last.packed <= _GAP
        and _end(new) - first.offset <= _JOINED
    )


def _end(place: Member) -> int:
    return place.offset + place.packed + (_ZIP_HEADER if place.crc is not None else 0)


def _read_once(file: ObjectFile, start: int, end: int) -> ReadAt:
    """Read a part of an archive, and return what reads in it; the rest is read when needed."""
    part = file.read_at(end - start, start)

    def read_at(size: int, offset: int) -> bytes:
        at = offset - start
        if at >= 0 and at + size <= len(part):
            return part[at : at + size]
        return file.read_at(size, offset)

    return read_at
