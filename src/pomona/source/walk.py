"""Walks through folders, and expands globs."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Callable, Iterator, Set
from typing import NamedTuple

__all__ = ["expand", "folders_above", "has_parent_in", "tree"]


def tree(
    root: str,
    on_error: Callable[[OSError], None],
    excludes: Callable[[str, bool], bool],
) -> Iterator[tuple[str, bool]]:
    """Yield a folder and all paths below it, in a fixed order, and whether each is a folder.

    Links are followed, but not in a circle.

    Args:
        root: the folder.
        on_error: called with the error of each folder that could not be listed.
        excludes: returns whether to skip a path, and all below it if it is a folder.
    """
    # An explicit stack: folders may be nested deeper than Python's recursion limit.
    above: list[_Folder] = []

    def enter(path: str) -> bool:
        try:
            folder = _Folder.open(path)
        except OSError as error:
            on_error(error)
            return False
        if folder.identity in [f.identity for f in above]:
            return False
        above.append(folder)
        return True

    if enter(root):
        yield root, True
    while above:
        for name, is_folder in above[-1].names:
            path = os.path.join(above[-1].path, name)  # noqa: PTH118 - it is called for every file
            if excludes(path, is_folder):
                continue
            if not is_folder:
                yield path, False
            elif enter(path):
                yield path, True
                break  # its content comes before the next name
        else:
            above.pop()


def expand(
    pattern: str,
    on_error: Callable[[OSError], None],
    excludes: Callable[[str, bool], bool],
    folder: str = "",
) -> Iterator[str]:
    """Yield what a glob matches below a folder, by default the current one.

    A wildcard does not match a leading dot. Python's `**` follows links in circles; here `**` uses
    `tree`, which skips what `excludes` selects.
    """
    parts = pattern.split("/")
    if "**" not in parts:
        for match in glob.iglob(pattern, root_dir=folder or None):  # noqa: PTH207 - names may not be valid text
            yield os.path.join(folder, match)  # noqa: PTH118
        return
    at = parts.index("**")
    top = "/".join(parts[:at]) or "/" * at  # if nothing precedes it: the root, or the folder itself
    rest = "/".join(itertools.dropwhile("**".__eq__, parts[at:]))
    for root in expand(top, on_error, excludes, folder) if top else [folder]:
        if not os.path.isdir(root or os.curdir):  # noqa: PTH112
            continue
        if not rest:
            yield root  # and so all paths below it
            continue
        for below, is_folder in tree(root, on_error, excludes):
            if is_folder:
                yield from expand(rest, on_error, excludes, below)


def folders_above(path: str) -> Iterator[str]:
    """Yield the folders above a path or a URI, the nearest first, without a slash at the end."""
    while path:
        path = path.rpartition("/")[0]
        yield path


def has_parent_in(path: str, folders: Set[str]) -> bool:
    """Return whether a folder above a path is in a set of folders without a slash at the end."""
    return any(above in folders for above in folders_above(path))


class _Folder(NamedTuple):
    """A folder that is being walked.

    Attributes:
        path: the path by which the walk reached it.
        identity: device and inode, the same for every path to it.
        names: entries that are not walked yet, in order, and whether each is a folder.
    """

    path: str
    identity: tuple[int, int]
    names: Iterator[tuple[str, bool]]

    @classmethod
    def open(cls, path: str) -> _Folder:
        status = os.stat(path or os.curdir)  # noqa: PTH116
        with os.scandir(path or os.curdir) as listing:
            # Names only: of a million files in one folder, entries would take 300 MB.
            kinds = {entry.name: _is_folder(entry) for entry in listing}
        return cls(path, (status.st_dev, status.st_ino), iter(sorted(kinds.items())))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that points to itself
        return False
