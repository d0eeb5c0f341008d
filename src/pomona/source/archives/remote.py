"""Archives in object stores: read in ranges, and each read is repeated if the store fails."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import IO, cast

from pomona.io.remote import RemotePlace
from pomona.source.archives.member import Archive, Member, NotBytes, stream_of
from pomona.source.archives.reader import member_content, stream_content
from pomona.source.image_file import MAX_FILE_BYTES, Content, ImageFile, read_content
from pomona.source.object_file import ObjectFile
from pomona.source.read_ahead import read_ahead

__all__ = ["RemoteMemberReader", "opened_in"]

_BLOCK = 4 * 2**20  # read at once: in 40 ms at 100 MB/s, and an answer takes 25 ms
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
    return cast("IO[bytes]", io.BufferedReader(file, _BLOCK))


class RemoteMemberReader:
    """Reads members of archives in object stores, many at once, ahead of the network."""

    images_at_once = 256

    def __init__(self) -> None:
        self._opened = lru_cache(_ARCHIVES)(ObjectFile)
        self._streamed: Archive | None = None
        self._stream: gzip.GzipFile | None = None

    def __reduce__(self) -> tuple[type[RemoteMemberReader], tuple[()]]:
        """Pickle no open file."""
        return RemoteMemberReader, ()

    def read(self, files: Sequence[ImageFile]) -> Iterator[Content]:
        """Yield the content of each member, in order. Those of a stream are not read ahead.

        Raises:
            RunError: the store fails for all archives.
        """
        return read_ahead(files, self._content, lambda file: stream_of(file.place) is None)

    def close(self) -> None:
        """Close the archives."""
        self._opened.cache_clear()
        self._streamed = self._stream = None

    def _content(self, file: ImageFile) -> Content:
        place = file.place
        if isinstance(place, NotBytes):
            return None, place.reason
        if not isinstance(place, Member) or place.archive.place is None:
            return read_content(file)  # the known image that shows whether a worker works
        if max(place.size, place.packed) > MAX_FILE_BYTES:
            return None, f"holds {place.size} bytes: no more than {MAX_FILE_BYTES} are read"
        try:
            return self._member(self._opened(place.archive.place, place.archive.path), place)
        except (OSError, EOFError, zlib.error) as error:
            self._streamed = None
            return None, f"cannot be read from its archive: {error}"

    def _member(self, file: ObjectFile, place: Member) -> Content:
        listed = place.archive
        if (file.size, file.modified_ns) != (listed.size, listed.modified_ns):
            return None, "cannot be read: its archive has changed during the run"
        if stream_of(place):
            return stream_content(self._stream_of(listed, file), place)
        return member_content(file.read_at, place)

    def _stream_of(self, archive: Archive, file: ObjectFile) -> gzip.GzipFile:
        if self._stream is None or archive != self._streamed:
            file.seek(0)
            self._streamed, self._stream = archive, gzip.GzipFile(fileobj=_buffered(file))
        return self._stream
