"""A listing that one reader begins, and the next one continues."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from pomona.io.remote import RemotePlace
from pomona.source.image_file import ImageFile
from pomona.source.remote_tree import RemoteTree

__all__ = ["BegunListing"]


class BegunListing:
    """The listing of a folder in a store, begun to see what the folder has.

    Arrow returns the first file of a folder only after the last request for it. So a second
    listing would cost as much as the first, although that one stopped at its first image.
    """

    def __init__(self) -> None:
        self._seen: list[ImageFile] = []
        self._errors: list[OSError] = []
        self._on_error = self._errors.append
        self._rest: Iterator[ImageFile] | None = None

    def begin(self, place: RemotePlace, folder: str) -> Iterator[ImageFile]:
        """Yield all files below a folder. The caller may stop early."""
        self._rest = RemoteTree(place, self._note).files(folder)
        for file in self._rest:
            self._seen.append(file)
            yield file

    def _note(self, error: OSError) -> None:
        self._on_error(error)

    def files(self, tree: RemoteTree, folder: str) -> Iterator[ImageFile]:
        """Return all files below the folder: once those of the begun listing, then a new one."""
        if self._rest is None:
            return tree.files(folder)
        seen, rest = self._seen, self._rest
        self._seen, self._rest, self._on_error = [], None, tree.on_error
        for error in self._errors:
            tree.on_error(error)
        return itertools.chain(seen, rest)
