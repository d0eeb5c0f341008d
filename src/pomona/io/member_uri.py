"""Paths of images inside archives: `file:/photos/shard-000.tar::red/apple.jpg`.

The first `::` that follows `.tar`, `.tar.gz`, `.tgz` or `.zip` ends the name of the archive. If the
name of a file on disk looks like such a path, its URI is escaped, so no two images share a URI.
"""

from __future__ import annotations

import os
import re
from urllib.parse import unquote_to_bytes

from pomona.io.location import path_of_row

__all__ = [
    "ARCHIVE_ENDINGS",
    "escaped_uri",
    "file_of_row",
    "is_text",
    "member_of_row",
    "member_uri",
    "split_member",
]

ARCHIVE_ENDINGS = (".tar", ".tar.gz", ".tgz", ".zip")
"""The last letters of an archive's name, in any letter case."""

_ARCHIVE = re.compile(
    f"(?:{'|'.join(re.escape(ending) for ending in ARCHIVE_ENDINGS)})(?=::)", re.IGNORECASE
)
_NO_TEXT = re.compile("[\udc80-\udcff]")  # bytes of a name that are not UTF-8, as surrogates


def is_text(name: str) -> bool:
    """Return whether all bytes of a name are valid UTF-8."""
    return name.isascii() or not _NO_TEXT.search(name)


def member_uri(archive: str, name: str) -> str:
    """Return the value of the column `path` for a member of an archive.

    Args:
        archive: absolute path of the archive on this machine, or its URI on another file system.
        name: name of the member; empty for the part of the archive that cannot be read.
    """
    if not archive.startswith("/"):
        return f"{archive}::{name}"
    uri = f"file:{archive}::{name}"
    if is_text(uri) and split_member(uri) == (f"file:{archive}", name):
        return uri
    return f"{escaped_uri(archive)}::{_escaped(name)}"


def escaped_uri(path: str) -> str:
    """Return the URI of a file whose name is not valid text, or looks like that of a member.

    Each byte that is not text becomes `%XX`, each `%` becomes `%25`, and each colon of `::` becomes
    `%3A`. The URI begins with `file://`. No other URI begins so.
    """
    return "file://" + _escaped(path).replace("::", "%3A%3A")


def split_member(uri: str) -> tuple[str, str] | None:
    """Return the two sides of the `::` in a row's `path` without unescaping them, or None."""
    if "::" not in uri:  # this is called for every file
        return None
    end = _ARCHIVE.search(uri)
    return (uri[: end.end()], uri[end.end() + 2 :]) if end else None


def member_of_row(uri: str) -> tuple[str, str] | None:
    """Return the archive of a row's `path`, as a path or a URI, and the name of the member.

    None if the image is not in an archive.
    """
    if (parts := split_member(uri)) is None:
        return None
    archive, name = parts
    if uri.startswith("file:///"):
        name = os.fsdecode(unquote_to_bytes(name))
    return path_of_row(archive), name


def file_of_row(uri: str) -> str:
    """Return the path on this machine of the file that contains the image of a row.

    This is the archive, if the image is in one. On another file system, it is a URI.
    """
    member = member_of_row(uri)
    return member[0] if member else path_of_row(uri)


def _escaped(name: str) -> str:
    return _NO_TEXT.sub(lambda no: f"%{ord(no[0]) - 0xDC00:02X}", name.replace("%", "%25"))
