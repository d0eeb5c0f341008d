"""An archive, its members, and how an archive is opened."""

from __future__ import annotations

import os
import stat
from enum import Enum
from typing import IO, NamedTuple

from pomona.io.remote import RemotePlace

__all__ = [
    "Archive",
    "Broken",
    "Found",
    "HardLink",
    "Member",
    "NotBytes",
    "Packing",
    "most_unpacked",
    "opened",
]

_ALWAYS_UNPACKED = 64 * 2**20
_MOST_TIMES = 100  # drawings saved as BMP reach this ratio, photos never


class Packing(Enum):
    """How the bytes of a member are stored."""

    PLAIN = "plain"
    DEFLATED = "deflated"
    IN_STREAM = "in stream"
    """In a tar file that is compressed as a whole: offsets count unpacked bytes."""


class Archive(NamedTuple):
    """An archive as it was listed.

    Attributes:
        path: absolute path on this machine, or URI.
        size: bytes.
        modified_ns: nanoseconds since 1970; with `size`, it shows whether the file has changed.
        place: if the archive is in an object store, its bucket.
    """

    path: str
    size: int
    modified_ns: int
    place: RemotePlace | None = None


class Member(NamedTuple):
    """Where a member is: its reader needs nothing else of the archive.

    Attributes:
        archive: the archive.
        offset: where its bytes begin; in a zip file, its local header.
        size: bytes of the image.
        packing: how they are stored.
        packed: bytes as stored.
        crc: CRC-32 of the image; None if the archive has none.
    """

    archive: Archive
    offset: int
    size: int
    packing: Packing
    packed: int
    crc: int | None = None


class NotBytes(NamedTuple):
    """A member, or a part of an archive, that is not read.

    Attributes:
        reason: why.
    """

    reason: str


class HardLink(NamedTuple):
    """A second name of an earlier member.

    Attributes:
        target: the first name.
    """

    target: str


Found = Member | NotBytes | HardLink


class Broken(Exception):  # noqa: N818 - a row of the table, not an error to a user
    """The rest of an archive cannot be read, for this reason."""


def opened(path: str) -> tuple[IO[bytes], Archive]:
    """Open an archive.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """
    # Do not block: a named pipe called a.tar must not stop the run.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file = os.fdopen(descriptor, "rb")
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        file.close()
        raise OSError("not a regular file")
    return file, Archive(path, found.st_size, found.st_mtime_ns)


def stream_of(place: object) -> Archive | None:
    """Return the archive whose members one worker should read in order; None if order is free."""
    if isinstance(place, Member) and place.packing is Packing.IN_STREAM:
        return place.archive
    return None


def most_unpacked(packed: int) -> int:
    """Return the most bytes that compressed bytes may become: more is a bomb."""
    return max(_ALWAYS_UNPACKED, _MOST_TIMES * packed)
