"""Rows whose files no longer exist, and which of them may be deleted.

An unmounted disk leaves an empty folder, or none. Rows below such a folder stay unless the folder
is named.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pomona.io.member_uri import file_of_row
from pomona.job.known_contents import content_keys
from pomona.source.missing_files import absent_folder, is_missing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.job.changes import Changes
    from pomona.job.tables import ReadableTable
    from pomona.source.listing import Listing
    from pomona.table.row_index import RowIndex

__all__ = ["GoneRows", "Missing"]


@dataclass(frozen=True, slots=True)
class Missing:
    """Which rows may be deleted because their files do not exist.

    An unmounted disk leaves an empty folder, or none. So a row stays if its file was below a folder
    that is empty now, unless the folder is named. A row of another source also stays if its folder
    does not exist, unless a file with the same bytes was listed.

    Attributes:
        of_other_sources: whether rows of other sources may be deleted.
        gone: folders that are gone for good, including all below them.
    """

    of_other_sources: bool = False
    gone: tuple[str, ...] = ()

    def is_below_gone(self, path: str) -> bool:
        """Return whether a path is below a folder that is gone for good."""
        return any(path.startswith(f"{folder.rstrip('/')}/") for folder in self.gone)


class GoneRows:
    """Finds rows whose files no longer exist, after the whole source was listed."""

    def __init__(
        self, listing: Listing, missing: Missing, changes: Changes, *, prune: bool
    ) -> None:
        """Read nothing yet.

        Args:
            listing: the listing of the source.
            missing: which of these rows stay, and whether those of other sources are deleted too.
            changes: where the rows are counted.
            prune: whether rows of this source are deleted.
        """
        self._listing = listing
        self._missing = missing
        self._changes = changes
        self._prune = prune

    def to_delete(
        self, index: RowIndex, table: ReadableTable, moved: Sequence[NDArray[np.uint64]]
    ) -> list[str]:
        """Count the rows, and return the paths of those to delete.

        Args:
            index: the index of the table, which records the listed files.
            table: the table, for reading paths.
            moved: keys of contents whose vectors this run took over from other rows.
        """
        absent_folder.cache_clear()  # a disk may be mounted between two runs of a process
        gone = [path for path in self._of_source(index, table) if self._prune]
        if self._missing.of_other_sources:
            gone += self._of_other_sources(index, table, moved)
        self._changes.pruned = len(gone)
        return gone

    def _of_source(self, index: RowIndex, table: ReadableTable) -> Iterator[str]:
        for paths in table.paths_in(index.parts_with_unlisted()):
            for path in filter(self._listing.is_gone, index.unlisted(paths)):
                if not (self._prune and self._is_below_empty(path)):
                    self._changes.gone += 1
                    yield path

    def _of_other_sources(
        self, index: RowIndex, table: ReadableTable, moved: Sequence[NDArray[np.uint64]]
    ) -> Iterator[str]:
        """Yield the paths of rows of other sources to delete; count those that stay."""
        listed = np.unique(np.concatenate([*moved, *_listed_contents(index, table)]))
        for _, paths, digests in table.contents_in(index.parts_with_unlisted()):
            contents = dict(zip(paths, digests, strict=True))
            for path in index.unlisted(paths):
                if self._listing.is_gone(path) or not is_missing(path):
                    continue
                folder = absent_folder(file_of_row(path).rpartition("/")[0] or "/")
                digest = contents[path]
                has_moved = digest and np.isin(content_keys([digest]), listed)[0]
                if folder is None or has_moved or self._missing.is_below_gone(file_of_row(path)):
                    self._changes.missing += 1
                    yield path
                else:
                    self._count_kept(folder)

    def _is_below_empty(self, path: str) -> bool:
        """Return whether a file was below a folder that is empty now and not named; count its row.

        The mount point of a disk is empty while the disk is not mounted.
        """
        place = file_of_row(path)
        if not place.startswith("/") or self._missing.is_below_gone(place):
            return False
        folder = absent_folder(place.rpartition("/")[0] or "/")
        if folder is None or not os.path.isdir(folder):  # noqa: PTH112 - names may not be valid text
            return False
        self._count_kept(folder)
        return True

    def _count_kept(self, folder: str) -> None:
        self._changes.missing_kept += 1
        self._changes.absent_folders[folder] += 1


def _listed_contents(index: RowIndex, table: ReadableTable) -> Iterator[NDArray[np.uint64]]:
    """Yield keys of the contents of rows whose files were listed."""
    for _, paths, digests in table.contents_in(index.parts):
        listed = set(index.listed(paths))
        found = zip(paths, digests, strict=True)
        yield content_keys([digest for path, digest in found if digest and path in listed])
