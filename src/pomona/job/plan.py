"""What a run has to do: the listing of the source, held against the rows of the table.

    new       no row                                  done
    moved     no row, but one has the same bytes      its vector is taken over
    changed   size or time differ from the row's      the row is removed, then done
    failed    a row without a vector                  likewise, if asked for
    label     the row has another label               the label is changed in place
    gone      a row, and its file is no more          the row stays, or is removed if asked for

A row is removed before its image is done again, not after: whoever is killed in between leaves a
row missing, which the next run makes, and never two rows or a wrong one.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import compress, islice
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pomona.io.location import path_of_row
from pomona.job.known_contents import KnownContents, StoredContents, content_keys, rows_for
from pomona.source.image_file import ImageFile
from pomona.source.listing import Listing
from pomona.source.missing_files import absent_folder, is_missing
from pomona.table.row_index import (
    Contents,
    FileState,
    IndexBuilder,
    NewLabels,
    RowIndex,
    RowsToDelete,
    keys_of,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from pomona.source.labels import LabelRule

__all__ = ["NO_ROWS", "Changes", "IndexedTable", "Missing", "ReadableTable", "Worklist"]

_LOOKED_UP = 4096  # files whose rows are looked up at once
_HASHED_AT_ONCE = 1024  # files: their rows are at most some megabytes
_HASHING = 8  # threads
_SET_ASIDE = 100_000  # files whose rows are removed at once: about 30 MB


class ReadableTable(StoredContents, Protocol):
    """What a rehearsal asks of a table."""

    def index(self) -> RowIndex:
        """What has a row, and from which state of its file."""

    def paths_in(self, parts: Iterable[str]) -> Iterator[list[str]]:
        """The paths of all rows in some part files, some thousand at a time."""


class IndexedTable(ReadableTable, Protocol):
    """What a worklist asks of a table."""

    def delete_rows(self, rows: RowsToDelete) -> None:
        """Take rows out."""

    def relabel(self, labels: NewLabels) -> None:
        """Change labels."""

    def append_batches(self, rows: list[pa.RecordBatch], provenance: Mapping[str, str]) -> None:
        """Add rows."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Which rows may be deleted because their files do not exist.

    A disk that is not mounted leaves an empty folder, or none. So a row stays if its file lay below
    a folder that is empty, unless the folder is named. A row of another source also stays if its
    folder does not exist, unless a file with the same bytes was listed.

    Attributes:
        of_other_sources: whether rows that were listed from elsewhere may be deleted.
        gone: folders that are gone for good, with all below them.
    """

    of_other_sources: bool = False
    gone: tuple[str, ...] = ()

    def is_below_gone(self, path: str) -> bool:
        """Whether a path is below a folder that is gone for good."""
        return any(path.startswith(f"{folder.rstrip('/')}/") for folder in self.gone)


@dataclass(slots=True)
class Changes:
    """How a source differs from its table: numbers of files, or of rows.

    Attributes:
        new: files without a row.
        changed: files that are not as they were when their row was made.
        retried: files whose row has no vector, to be tried again.
        unchanged: files that have their row.
        gone: rows whose file was in the source and is no more.
        pruned: those of them that are removed.
        relabelled: files that have their row, and whose label there is changed.
        labels_kept: files whose row keeps a label that the default rule would not give.
        taken_over: files without a row that got the vector of a row with the same bytes.
        missing: rows whose file does not exist, of those that may be deleted for that.
        missing_kept: rows whose file does not exist, and whose folder does not or is empty: they
            stay.
        absent_folders: such folders, each with its number of rows.
        labelled: files that have a label by the run's rule.
    """

    new: int = 0
    changed: int = 0
    retried: int = 0
    unchanged: int = 0
    gone: int = 0
    pruned: int = 0
    relabelled: int = 0
    labels_kept: int = 0
    labelled: int = 0
    taken_over: int = 0
    missing: int = 0
    missing_kept: int = 0
    absent_folders: Counter[str] = field(default_factory=Counter)

    @property
    def to_do(self) -> int:
        """Files to do."""
        return self.new + self.changed + self.retried


class Worklist:
    """The files to do, found while the source is listed.

    Attributes:
        listing: the images, and folders that could not be listed.
        changes: how they differ from the table, counted while they are listed.
    """

    def __init__(  # noqa: PLR0913 - what a run was asked for
        self,
        listing: Listing,
        label: LabelRule,
        *,
        relabel: bool,
        retry_failed: bool,
        prune: bool,
        missing: Missing,
        provenance: Mapping[str, str],
        max_pixels: int,
    ) -> None:
        """Begin.

        Args:
            listing: the images.
            label: gives each its label.
            relabel: whether rows that exist get the label that the rule gives.
            retry_failed: whether images whose row has no vector are done again.
            prune: whether rows of images that no longer exist are removed.
            missing: which of these rows stay, and whether those of other sources are removed too.
            provenance: of the rows that the run adds.
            max_pixels: larger images have no vector.
        """
        self.listing = listing
        self.changes = Changes()
        self._label = label
        self._relabel = relabel
        self._to_relabel: set[str] = set()  # part files
        self._retry_failed = retry_failed
        self._prune = prune
        self._missing = missing
        self._provenance = provenance
        self._max_pixels = max_pixels
        self._known: KnownContents | None = None  # until a file may be known
        self._taken: list[pa.Table] = []  # rows that wait to be written
        self._moved = [np.array([], np.uint64)]  # keys of contents that were taken over

    def rehearse(self, table: ReadableTable) -> None:
        """Count what there is to do, and change nothing."""
        for _ in self.files(_Unchanging(table)):
            pass

    def files(
        self, table: IndexedTable, check: Callable[[], None] = lambda: None
    ) -> Iterator[ImageFile]:
        """The files to do, streaming; to be read once.

        A file that has a row comes after that row was removed from the table.

        Args:
            table: what has rows.
            check: called before rows are removed where files are to be done; raises if they
                cannot be.
        """
        index = table.index()
        aside: list[ImageFile] = []
        maybe_known: list[ImageFile] = []

        def take_out() -> None:
            if aside:
                check()
                table.delete_rows(index.rows_of([file.uri for file in aside]))

        files = self.listing.files()
        while chunk := list(islice(files, _LOOKED_UP if len(index) else 1)):
            states = _look_up(index, chunk)
            self._compare_labels(index, chunk, states)
            sizes = index.has_vector_of_size([file.size for file in chunk])
            for file, verdict, same_size in zip(chunk, states, sizes, strict=True):
                if verdict is FileState.NEW and same_size:
                    maybe_known.append(file)
                elif verdict is FileState.NEW:
                    self.changes.new += 1
                    yield file
                elif self._count(verdict):
                    aside.append(file)
            if len(maybe_known) >= _HASHED_AT_ONCE:
                yield from self._take_over(index, table, maybe_known)
                maybe_known.clear()
            if len(aside) >= _SET_ASIDE:
                take_out()
                yield from aside
                aside.clear()
        if maybe_known:
            yield from self._take_over(index, table, maybe_known)
        self._write_taken(table)
        take_out()
        yield from aside
        self._change_labels(index, table)
        if gone := self._gone(index, table):
            if self.changes.to_do:
                check()
            table.delete_rows(index.rows_of(gone))
            self.changes.pruned = len(gone)

    def _count(self, verdict: FileState) -> bool:
        """Count a file that has a row; gives whether it is to be done again."""
        changes = self.changes
        if verdict is FileState.CHANGED:
            changes.changed += 1
        elif verdict is FileState.FAILED and self._retry_failed:
            changes.retried += 1
        else:
            changes.unchanged += 1
            return False
        return True

    def _compare_labels(
        self, index: RowIndex, files: Sequence[ImageFile], states: Sequence[FileState]
    ) -> None:
        """Count labels, and take note of the part files that have others."""
        uris = [file.uri for file in files]
        labels = list(map(self._label, uris))
        self.changes.labelled += sum(label is not None for label in labels)
        keeps_row = [
            verdict is FileState.DONE or (verdict is FileState.FAILED and not self._retry_failed)
            for verdict in states
        ]
        others = list(compress(uris, keeps_row & index.has_other_label(uris, labels)))
        if self._relabel:
            self.changes.relabelled += len(others)
            self._to_relabel |= index.parts_of(others) if others else set()
        else:
            self.changes.labels_kept += len(others)

    def _change_labels(self, index: RowIndex, table: IndexedTable) -> None:
        """Rewrite the part files that have other labels: some at once, in bounded memory."""
        found: NewLabels = {}
        for part in sorted(self._to_relabel):
            found[part] = {}
            for paths in table.paths_in([part]):
                listed = list(index.listed(paths))
                found[part] |= zip(keys_of(listed), map(self._label, listed), strict=True)
            if sum(map(len, found.values())) >= _SET_ASIDE:
                table.relabel(found)
                found = {}
        if found:
            table.relabel(found)

    def _take_over(
        self, index: RowIndex, table: IndexedTable, files: Sequence[ImageFile]
    ) -> Iterator[ImageFile]:
        """Make rows for files whose bytes have a row; gives the other files, to be done."""
        if self._known is None:
            self._known = KnownContents(table, index.parts, self._max_pixels)
        with ThreadPoolExecutor(_HASHING, "pomona-hash") as threads:
            digests = list(threads.map(self.listing.digest, files))
        rows = self._known.find(filter(None, digests))
        found = set(rows["content_sha256"].to_pylist())
        known: list[tuple[ImageFile, str]] = []
        for file, digest in zip(files, digests, strict=True):
            if digest and digest in found:
                known.append((file, digest))
            else:
                self.changes.new += 1
                yield file
        if known:
            moved = [file for file, _ in known]
            contents = [digest for _, digest in known]
            labels = [self._label(file.uri) for file in moved]
            self._taken.append(rows_for(moved, labels, contents, rows))
            self._moved.append(content_keys(contents))
            self.changes.taken_over += len(known)
        if sum(map(len, self._taken)) >= _HASHED_AT_ONCE:
            self._write_taken(table)

    def _write_taken(self, table: IndexedTable) -> None:
        if self._taken:
            batches = [batch for rows in self._taken for batch in rows.to_batches()]
            table.append_batches(batches, self._provenance)
        self._taken.clear()

    def _missing_rows(
        self, missing: Missing, index: RowIndex, table: IndexedTable
    ) -> Iterator[str]:
        """The paths of rows of other sources that `Missing` describes; counts those that stay."""
        listed = np.unique(np.concatenate([*self._moved, *_listed_contents(index, table)]))
        for _, paths, digests in table.contents_in(index.parts_with_unlisted()):
            contents = dict(zip(paths, digests, strict=True))
            for path in index.unlisted(paths):
                if self.listing.is_gone(path) or not is_missing(path):
                    continue
                folder = absent_folder(path_of_row(path).rpartition("/")[0] or "/")
                digest = contents[path]
                has_moved = digest and np.isin(content_keys([digest]), listed)[0]
                if folder is None or has_moved or missing.is_below_gone(path_of_row(path)):
                    self.changes.missing += 1
                    yield path
                else:
                    self._count_kept(folder)

    def _is_below_empty(self, path: str) -> bool:
        """Whether a file lay below a folder that is empty now and not named; counts its row.

        A folder in which a disk was mounted is empty without it.
        """
        place = path_of_row(path)
        if not place.startswith("/") or self._missing.is_below_gone(place):
            return False
        folder = absent_folder(place.rpartition("/")[0] or "/")
        if folder is None or not os.path.isdir(folder):  # noqa: PTH112 - names may be no valid text
            return False
        self._count_kept(folder)
        return True

    def _count_kept(self, folder: str) -> None:
        self.changes.missing_kept += 1
        self.changes.absent_folders[folder] += 1

    def _gone(self, index: RowIndex, table: IndexedTable) -> list[str]:
        """Count the rows whose files are no more; gives their paths if they are to be removed.

        They are removed in the end: not while their part files are read.
        """
        absent_folder.cache_clear()  # a disk may be mounted between two runs of a process
        gone: list[str] = []
        for paths in table.paths_in(index.parts_with_unlisted()):
            for path in filter(self.listing.is_gone, index.unlisted(paths)):
                if self._prune and self._is_below_empty(path):
                    continue
                self.changes.gone += 1
                if self._prune:
                    gone.append(path)
        if self._missing.of_other_sources:
            gone += self._missing_rows(self._missing, index, table)
        return gone


class _NoRows:
    """A table without rows."""

    def index(self) -> RowIndex:
        return IndexBuilder().build()

    def paths_in(self, parts: Iterable[str]) -> Iterator[list[str]]:  # noqa: ARG002 - there are none
        return iter(())

    def contents_in(self, parts: Iterable[str]) -> Iterator[Contents]:  # noqa: ARG002 - likewise
        return iter(())

    def rows_with(
        self,
        digests: Mapping[str, Sequence[str]],  # noqa: ARG002 - likewise
    ) -> Iterator[pa.RecordBatch]:
        return iter(())


NO_ROWS: ReadableTable = _NoRows()
"""What a table is that will be written, or overwritten."""


@dataclass(frozen=True, slots=True)
class _Unchanging:
    """A table whose rows stay."""

    table: ReadableTable

    def index(self) -> RowIndex:
        return self.table.index()

    def paths_in(self, parts: Iterable[str]) -> Iterator[list[str]]:
        return self.table.paths_in(parts)

    def delete_rows(self, rows: RowsToDelete) -> None:
        pass

    def relabel(self, labels: NewLabels) -> None:
        pass

    def contents_in(self, parts: Iterable[str]) -> Iterator[Contents]:
        return self.table.contents_in(parts)

    def rows_with(self, digests: Mapping[str, Sequence[str]]) -> Iterator[pa.RecordBatch]:
        return self.table.rows_with(digests)

    def append_batches(self, rows: list[pa.RecordBatch], provenance: Mapping[str, str]) -> None:
        pass


def _listed_contents(index: RowIndex, table: ReadableTable) -> Iterator[NDArray[np.uint64]]:
    """Keys of the contents of rows whose files were listed."""
    for _, paths, digests in table.contents_in(index.parts):
        listed = set(index.listed(paths))
        found = zip(paths, digests, strict=True)
        yield content_keys([digest for path, digest in found if digest and path in listed])


def _look_up(index: RowIndex, files: Sequence[ImageFile]) -> list[FileState]:
    uris = [file.uri for file in files]
    return index.states(uris, [file.size for file in files], [file.modified for file in files])
