"""What lists images: a folder, one file or a glob on this machine."""

from __future__ import annotations

import fnmatch
import glob
import itertools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pomona.errors import SourceError
from pomona.folder_tree import expand, has_parent_in, is_hidden, tree
from pomona.image_file import ImageFile, look_at
from pomona.location import local_path, path_of_row

__all__ = [
    "IMAGE_EXTENSIONS",
    "Listing",
    "Source",
    "is_chosen",
    "is_hidden_below",
    "is_taken",
]

_log = logging.getLogger(__name__)

IMAGE_EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@dataclass(frozen=True, slots=True)
class Source:
    """A set of image files on this machine's file system.

    Attributes:
        given: what the user wrote: a folder, a file, or a glob; a `file:` URI also.
        globs: patterns for file names (or, with a slash, for paths below the folder) that choose
            files in place of the known extensions; letter case counts.
        excluded: a folder below the source to leave out: the table, where it lies there.
    """

    given: str
    globs: tuple[str, ...] = ()
    excluded: str | None = None

    def check(self) -> None:
        """Make sure that there is something to list.

        Raises:
            SourceError: missing, or a glob without matches.
        """
        if next(self._found(lambda _: None), None) is None:
            raise SourceError(f"{self.given} does not exist: give a folder, an image or a glob")

    def files(self, on_error: Callable[[OSError], None]) -> Iterator[ImageFile]:
        """List the images, in a fixed order, each once, streaming.

        Hidden names and names that begin with an underscore are left out, as Spark does. Links are
        followed, but never round in a circle.

        Args:
            on_error: is told of each folder that could not be listed.
        """
        for root in self._roots(on_error):
            if os.path.isdir(root):  # noqa: PTH112 - names may be no valid text: stay with os
                yield from self._walk(root, on_error)
            else:
                yield look_at(root)

    def is_gone(self, uri: str) -> bool:
        """Whether a file of a table's row, which was not listed, lay in the source and is no more.

        A file that cannot be looked at may still be there.
        """
        path = path_of_row(uri)
        if not path.startswith("/") or not self._would_list(path):
            return False
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except (OSError, ValueError):
            return False
        return False

    def _would_list(self, path: str) -> bool:
        """Whether a file of this path, were it there, would be listed."""
        given = local_path(self.given)
        pattern = os.path.abspath(given)  # noqa: PTH100
        above = [str(parent) for parent in reversed(Path(path).parents)]
        of_folders = given.rpartition("/")[2] in {"", "**"}
        places = above if of_folders else [*above, path]
        if os.path.lexists(given):
            root = pattern if pattern in places else None
        else:
            root = next((place for place in places if _matches(place, pattern)), None)
        return root is not None and self._takes(path, root)

    def _takes(self, path: str, root: str) -> bool:
        """Whether a file is one of those asked for: a root itself always is."""
        below = path[len(root) :].lstrip("/")
        return not below or is_taken(below, self.globs)

    def _roots(self, on_error: Callable[[OSError], None]) -> list[str]:
        """Files and folders that were given, but for those that lie in others of them."""
        found = {root.rstrip("/") for root in self._found(on_error)}
        return sorted(root or "/" for root in found if not has_parent_in(root, found))

    def _found(self, on_error: Callable[[OSError], None]) -> Iterator[str]:
        path = local_path(self.given)
        if os.path.lexists(path):
            yield os.path.abspath(path)  # noqa: PTH100 - links stay as they were given
            return
        for match in expand(path, on_error):
            if not is_hidden_below(match, path):
                yield os.path.abspath(match)  # noqa: PTH100

    def _walk(self, root: str, on_error: Callable[[OSError], None]) -> Iterator[ImageFile]:
        for path, is_folder in tree(root, on_error, self.excluded):
            if not is_folder and is_chosen(path[len(root) :].lstrip("/"), self.globs):
                yield look_at(path)


class Listing:
    """The images of one run: listed once, streaming.

    Attributes:
        unlisted: folders that could not be listed, each with its reason.
        files_listed: images seen so far.
    """

    def __init__(
        self,
        given: str,
        files: Callable[[Callable[[OSError], None]], Iterator[ImageFile]],
        is_gone: Callable[[str], bool],
    ):
        """Begin the listing.

        Args:
            given: what the user gave as the source.
            files: lists the images, and tells of folders that could not be listed.
            is_gone: whether a file of a table's row, which was not listed, lay in the source and is
                no more.
        """
        self.is_gone = is_gone
        self.unlisted: list[str] = []
        self.files_listed = 0
        self._given = given
        self._files = files(self._note)
        self._first = next(self._files, None)

    def check(self) -> None:
        """Make sure that there is an image.

        Raises:
            SourceError: there is none.
        """
        if self._first is None:
            why = f" ({self.unlisted[0]})" if self.unlisted else ""
            raise SourceError(
                f"{self._given} has no images{why}: known extensions are "
                f"{' '.join(IMAGE_EXTENSIONS)}; choose others with --glob"
            )

    def files(self) -> Iterator[ImageFile]:
        """The images; to be read once."""
        first = (self._first,) if self._first else ()
        for file in itertools.chain(first, self._files):
            self.files_listed += 1
            yield file

    def _note(self, error: OSError) -> None:
        told = f"{error.filename}: {error.strerror}"
        if told in self.unlisted:  # where a glob and the walk meet it
            return
        self.unlisted.append(told)
        _log.warning("cannot list %s: %s", error.filename, error.strerror)


def is_hidden_below(match: str, pattern: str) -> bool:
    """Whether a hidden name is in that part of a glob's match that the pattern left open."""
    return any(map(is_hidden, filter(None, match.split("/")[len(_fixed_parts(pattern)) :])))


def is_chosen(relative: str, globs: Sequence[str]) -> bool:
    """Whether a file, by its path below the source, is one of those asked for."""
    name = relative.rpartition("/")[2]
    if not globs:
        return name.lower().endswith(IMAGE_EXTENSIONS)
    return any(
        fnmatch.fnmatchcase(relative if "/" in pattern else name, pattern) for pattern in globs
    )


def is_taken(relative: str, globs: Sequence[str]) -> bool:
    """Whether a file, by its path below the source, is chosen and no part of that is hidden."""
    return not any(map(is_hidden, relative.split("/"))) and is_chosen(relative, globs)


def _fixed_parts(pattern: str) -> list[str]:
    """The folders that a glob names before its first wildcard."""
    parts = pattern.split("/")
    return list(itertools.takewhile(lambda part: not glob.has_magic(part), parts))


def _matches(path: str, pattern: str) -> bool:
    """Whether a glob finds a path, were it there; both absolute."""
    if is_hidden_below(path, pattern):
        return False
    return _parts_match(path.split("/"), pattern.split("/"))


def _parts_match(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_parts_match(parts[n:], patterns[1:]) for n in range(len(parts) + 1))
    if not parts or not fnmatch.fnmatchcase(parts[0], patterns[0]):
        return False
    return _parts_match(parts[1:], patterns[1:])
