"""The place of a database that has a server, and a form without one in a folder."""

from __future__ import annotations

import re
from pathlib import Path

from pomona.errors import UsageError
from pomona.exports.files.whole import folder_to_write

__all__ = ["server_or_folder"]


def server_or_folder(kind: str, place: str) -> str | Path:
    """Return the URL of a server as it is, or the path of a folder.

    Raises:
        UsageError: the place looks like a server without `http://`, or the folder cannot be used.
    """
    if place.startswith(("http://", "https://")):
        return place
    if re.fullmatch(r"[\w.-]+:\d+/?", place):
        raise UsageError(
            f"{kind}:{place} looks like a server: give {kind}:http://{place}, or {kind}:./{place} "
            "for a folder of that name"
        )
    return folder_to_write(place)
