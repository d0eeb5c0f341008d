"""Reads single images in archives by the paths of their rows, for pages that show them."""

from __future__ import annotations

import os
import threading
from functools import lru_cache

from pomona.io.member_uri import member_of_row
from pomona.source.archives.listing import Archives
from pomona.source.archives.member import stream_of
from pomona.source.archives.reader import MemberReader
from pomona.source.image_file import Content, ImageFile
from pomona.source.listing import Source
from pomona.source.selection import Selection

__all__ = ["read_member"]

_ARCHIVES_AT_ONCE = 4  # whose members are held
_one_at_a_time = threading.Lock()


def read_member(uri: str) -> Content:
    """Read one image by the path of its row, or return None and the reason why it cannot be read.

    Not from a compressed tar file: it would be unpacked for each image.
    """
    archive, _ = member_of_row(uri) or ("", "")
    with _one_at_a_time:  # several threads that want the same list make it once
        file = _members_of(archive, _state(archive)).get(uri)
    if file is None:
        return None, "is not in its archive"
    if stream_of(file.place):
        return None, "is in a compressed tar file"
    reader = MemberReader()
    ((content, reason),) = reader.read([file])
    reader.close()
    return content, reason


def _state(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


@lru_cache(_ARCHIVES_AT_ONCE)
def _members_of(archive: str, state: tuple[int, int]) -> dict[str, ImageFile]:  # noqa: ARG001
    """Return the members of an archive in this state, by the path of the row."""
    files = Archives(Source(archive, Selection(("*",)))).files(lambda _: None)
    return {file.uri: file for file in files}
