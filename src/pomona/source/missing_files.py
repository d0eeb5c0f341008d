"""Whether the file of a row still exists, and whether its folder does: a disk may be unmounted."""

from __future__ import annotations

import os
from functools import lru_cache

from pomona.io.member_uri import file_of_row

__all__ = ["absent_folder", "is_missing"]


def is_missing(uri: str) -> bool | None:
    """Return whether the file of a row does not exist; None if that cannot be checked.

    Files on other file systems are not checked. An image in an archive exists if its archive does.
    """
    path = file_of_row(uri)
    if not path.startswith("/"):
        return None
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return None
    return False


@lru_cache(65_536)
def absent_folder(folder: str) -> str | None:
    """Return the topmost missing folder among a folder and those above it.

    An empty folder counts as missing, because it may be the mount point of a disk. None if the
    folder contains something.
    """
    try:
        with os.scandir(folder) as entries:
            return None if next(entries, None) else folder
    except (FileNotFoundError, NotADirectoryError):
        return absent_folder(folder.rpartition("/")[0] or "/") or folder
    except OSError:
        return folder
