"""Listing images: in a folder, one file or a glob on this machine."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pomona.errors import SourceError
from pomona.io.location import local_path, path_of_row
from pomona.io.member_uri import ARCHIVE_ENDINGS, split_member
from pomona.source.arriving import Arriving
from pomona.source.image_file import ImageFile, content_digest, look_at
from pomona.source.images import FileReader, Images, Reader
from pomona.source.passed_over import PassedOver
from pomona.source.selection import (
    IMAGE_EXTENSIONS,
    KNOWN_IMAGES,
    Selected,
    Selection,
    SourceGlob,
    has_wildcard,
    without_ranges,
)
from pomona.source.walk import expand, has_parent_in, tree

__all__ = ["Listing", "Source"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """A set of image files on this machine's file system.

    Attributes:
        given: the value of `source`: a folder, a file, a glob, or a `file:` URI.
        selection: which files below a folder are images of the run.
        table: a folder that is skipped: the table, if it is below the source.
    """

    given: str
    selection: Selection = KNOWN_IMAGES
    table: str | None = None

    def check(self) -> None:
        """Check that there is something to list.

        Raises:
            SourceError: the source does not exist, or the glob matches nothing.
        """
        if next(self._found(lambda _: None, PassedOver()), None) is None:
            given = self.given or "''"
            raise SourceError(f"{given} {self._why_nothing()}")

    def _why_nothing(self) -> str:
        if has_wildcard(self.given):
            return "matches no file or folder: check the pattern, or give a folder or an image"
        if os.path.isfile(self.given.rstrip("/")):  # noqa: PTH113 - it never raises
            return "is a file, not a folder: remove the slash at the end"
        return "does not exist: give a folder, an image or a glob"

    def files(
        self, on_error: Callable[[OSError], None], passed_over: PassedOver | None = None
    ) -> Iterator[ImageFile]:
        """Yield the images in a fixed order, each once.

        The listing follows links, but not in a circle.

        Args:
            on_error: called with the error of each folder that could not be listed.
            passed_over: counts what is skipped.
        """
        passed_over = passed_over or PassedOver()
        passed_over.expect(self.selection.exclude)
        for root in self._roots(on_error, passed_over):
            if os.path.isdir(root):  # noqa: PTH112 - names may be no valid text: stay with os
                yield from self._walk(root, on_error, passed_over)
            else:
                yield look_at(root)

    def is_gone(self, uri: str) -> bool:
        """Return whether the file of a row was in the source and no longer is.

        An excluded file counts as gone. A file that cannot be examined does not: it may exist.
        """
        path = "" if split_member(uri) else path_of_row(uri)
        if not path.startswith("/") or (root := self._root_of(path)) is None:
            return False
        below = path[len(root) :].lstrip("/")
        if below and not self.selection.chooses(below):
            return False
        selected = Selected(self.selection, self._glob(), root, PassedOver())
        if selected.excludes(path, is_folder=False):
            return True
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except (OSError, ValueError):
            return False
        return False

    def digest(self, file: ImageFile) -> str | None:
        """Return the SHA-256 of a file's bytes, in hex; None if it cannot be read."""
        return content_digest(file)

    @property
    def reader(self) -> FileReader:
        """What reads the files."""
        return FileReader()

    @property
    def by_content(self) -> bool:
        """Whether only its bytes tell that a file has changed."""
        return False

    def _glob(self) -> SourceGlob:
        given = local_path(self.given)
        absolute = os.path.abspath(given)  # noqa: PTH100 - links stay as they were given
        return SourceGlob(absolute, is_glob=not os.path.lexists(given))

    def _root_of(self, path: str) -> str | None:
        """Return which of the given files and folders is a path or contains it."""
        glob = self._glob()
        above = [str(parent) for parent in reversed(Path(path).parents)]
        of_folders = local_path(self.given).rpartition("/")[2] in {"", "**"}
        places = above if of_folders else [*above, path]
        return next(filter(glob.finds, places), None)

    def _roots(self, on_error: Callable[[OSError], None], passed_over: PassedOver) -> list[str]:
        """Return the given files and folders, without those that lie in another one."""
        found = {root.rstrip("/") for root in self._found(on_error, passed_over)}
        return sorted(root or "/" for root in found if not has_parent_in(root, found))

    def _found(self, on_error: Callable[[OSError], None], passed_over: PassedOver) -> Iterator[str]:
        path, glob = local_path(self.given), self._glob()
        if not glob.is_glob:
            yield glob.pattern
            return
        excludes = self._excluding(glob, passed_over)
        patterns = without_ranges(path)
        for match in itertools.chain(*(expand(each, on_error, excludes) for each in patterns)):
            absolute = os.path.abspath(match)  # noqa: PTH100
            is_folder = os.path.isdir(absolute)  # noqa: PTH112
            selected = Selected(self.selection, glob, absolute, passed_over)
            if selected.has_root(is_folder=is_folder):
                yield absolute

    def _walk(
        self, root: str, on_error: Callable[[OSError], None], passed_over: PassedOver
    ) -> Iterator[ImageFile]:
        if root == self.table:
            return
        for path, is_folder in tree(root, on_error, self._excluding(self._glob(), passed_over)):
            if is_folder:
                continue
            if self.selection.chooses(path[len(root) :].lstrip("/")):
                yield look_at(path)
            else:
                passed_over.file(path.rpartition("/")[2])

    def _excluding(self, glob: SourceGlob, passed_over: PassedOver) -> Callable[[str, bool], bool]:
        """Return a test whether a walk skips a path whose parent folder it has entered."""

        def excludes(path: str, is_folder: bool) -> bool:
            path = path if path.startswith("/") else os.path.abspath(path)  # noqa: PTH100
            if path == self.table:
                return True
            pattern = self.selection.own_exclusion(glob.below(path), is_folder=is_folder)
            if pattern is None:
                return False
            passed_over.exclude(pattern, path if glob.is_glob else None)
            return True

        return excludes


class Listing:
    """The images of one run. They are listed once and not held in memory.

    Attributes:
        by_content: whether only its bytes tell that an image has changed, not size and time.
        reader: what reads the images for the embedded engine.
        unlisted: folders that could not be listed, each with its reason.
        files_listed: images seen so far.
        passed_over: counts of the files seen so far that are not images of the run.
    """

    def __init__(
        self,
        given: str,
        files: Callable[[Callable[[OSError], None], PassedOver], Iterator[ImageFile]],
        is_gone: Callable[[str], bool],
        digest: Callable[[ImageFile], str | None] = content_digest,
        *,
        by_content: bool = False,
    ):
        """Begin the listing.

        Args:
            given: the value of `source`.
            files: lists the images, reports folders that could not be listed, and counts what it
                skips.
            is_gone: whether the file of a row was in the source and no longer is.
            digest: SHA-256 of a file's bytes, in hex; None if it cannot be read.
            by_content: whether only its bytes tell that an image has changed.
        """
        self.by_content = by_content
        self.reader: Reader = FileReader()
        self.is_gone = is_gone
        self.digest = digest
        self.unlisted: list[str] = []
        self.files_listed = 0
        self.passed_over = PassedOver()
        self._given = given
        self._files = files(self._note, self.passed_over)
        self._first = next(self._files, None)

    @classmethod
    def of(cls, images: Images, arriving: Arriving | None = None) -> Listing:
        """Begin the listing of a source for the embedded engine.

        Args:
            images: the source.
            arriving: holds back images that may still be written.

        Raises:
            SourceError: the source does not exist, or cannot be read.
        """
        images.check()
        listing = cls(
            images.given,
            arriving.files(images) if arriving else images.files,
            arriving.is_gone(images) if arriving else images.is_gone,
            images.digest,
            by_content=images.by_content,
        )
        listing.reader = images.reader
        return listing

    def check(self) -> None:
        """Check that there is an image.

        Raises:
            SourceError: there is no image.
        """
        if self._first is None:
            found = "; ".join([*self.unlisted[:1], *self.passed_over.in_words()])
            raise SourceError(
                f"{self._given} has no images{f' ({found})' if found else ''}: known extensions "
                f"are {' '.join(IMAGE_EXTENSIONS)}; choose others with `globs`"
                f"{self._advice_for_archives()}"
            )

    def _advice_for_archives(self) -> str:
        """Return the end of a message, if archives were seen: Hadoop's listing reads none."""
        found = set(ARCHIVE_ENDINGS).intersection(self.passed_over.by_extension)
        return f", or archives by a glob such as {self._given}/*{min(found)}" if found else ""

    def files(self) -> Iterator[ImageFile]:
        """Return the images; the iterator can be read once."""
        first = (self._first,) if self._first else ()
        for file in itertools.chain(first, self._files):
            self.files_listed += 1
            yield file

    def _note(self, error: OSError) -> None:
        line = f"{error.filename}: {error.strerror}"
        if line in self.unlisted:  # the glob and the walk can both report it
            return
        self.unlisted.append(line)
        _log.warning("cannot list %s: %s", error.filename, error.strerror)
