"""What a run has to do: the listing of the source, held against the rows of the table.

    new       no row                                  done
    changed   size or time differ from the row's      the row is removed, then done
    failed    a row without a vector                  likewise, if asked for
    label     the row has another label               the label is changed in place
    gone      a row, and its file is no more          the row stays, or is removed if asked for

A row is removed before its image is done again, not after: whoever is killed in between leaves a
row missing, which the next run makes, and never two rows or a wrong one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress, islice
from typing import TYPE_CHECKING, Protocol

from pomona.image_file import ImageFile
from pomona.row_index import Doomed, IndexBuilder, NewLabels, RowIndex, Verdict, keys_of
from pomona.source import Listing

if TYPE_CHECKING:
    from pomona.labels import LabelRule

__all__ = ["NO_ROWS", "Changes", "IndexedTable", "ReadableTable", "Worklist"]

_LOOKED_UP = 4096  # files whose rows are looked up at once
_SET_ASIDE = 100_000  # files whose rows are removed at once: about 30 MB


class ReadableTable(Protocol):
    """What a rehearsal asks of a table."""

    def index(self) -> RowIndex:
        """What has a row, and from which state of its file."""

    def paths_in(self, parts: Iterable[str]) -> Iterator[list[str]]:
        """The paths of all rows in some part files, some thousand at a time."""


class IndexedTable(ReadableTable, Protocol):
    """What a worklist asks of a table."""

    def remove_rows(self, rows: Doomed) -> None:
        """Take rows out."""

    def relabel(self, labels: NewLabels) -> None:
        """Change labels."""


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

    def __init__(
        self,
        listing: Listing,
        label: LabelRule,
        *,
        relabel: bool,
        retry_failed: bool,
        prune: bool,
    ) -> None:
        """Begin.

        Args:
            listing: the images.
            label: gives each its label.
            relabel: whether rows that exist get the label that the rule gives.
            retry_failed: whether images whose row has no vector are done again.
            prune: whether rows of images that no longer exist are removed.
        """
        self.listing = listing
        self.changes = Changes()
        self._label = label
        self._relabel = relabel
        self._to_relabel: set[str] = set()  # part files
        self._retry_failed = retry_failed
        self._prune = prune

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

        def take_out() -> None:
            if aside:
                check()
                table.remove_rows(index.rows_of([file.uri for file in aside]))

        files = self.listing.files()
        while chunk := list(islice(files, _LOOKED_UP if len(index) else 1)):
            verdicts = _look_up(index, chunk)
            self._compare_labels(index, chunk, verdicts)
            for file, verdict in zip(chunk, verdicts, strict=True):
                if verdict is Verdict.NEW:
                    self.changes.new += 1
                    yield file
                elif self._count(verdict):
                    aside.append(file)
            if len(aside) >= _SET_ASIDE:
                take_out()
                yield from aside
                aside.clear()
        take_out()
        yield from aside
        self._change_labels(index, table)
        if gone := self._gone(index, table):
            if self.changes.to_do:
                check()
            table.remove_rows(index.rows_of(gone))
            self.changes.pruned = len(gone)

    def _count(self, verdict: Verdict) -> bool:
        """Count a file that has a row; gives whether it is to be done again."""
        changes = self.changes
        if verdict is Verdict.CHANGED:
            changes.changed += 1
        elif verdict is Verdict.FAILED and self._retry_failed:
            changes.retried += 1
        else:
            changes.unchanged += 1
            return False
        return True

    def _compare_labels(
        self, index: RowIndex, files: Sequence[ImageFile], verdicts: Sequence[Verdict]
    ) -> None:
        """Count labels, and take note of the part files that have others."""
        uris = [file.uri for file in files]
        labels = list(map(self._label, uris))
        self.changes.labelled += sum(label is not None for label in labels)
        keeps_row = [
            verdict is Verdict.DONE or (verdict is Verdict.FAILED and not self._retry_failed)
            for verdict in verdicts
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

    def _gone(self, index: RowIndex, table: IndexedTable) -> list[str]:
        """Count the rows whose files are no more; gives their paths if they are to be removed.

        They are removed in the end: not while their part files are read.
        """
        gone: list[str] = []
        for paths in table.paths_in(index.parts_with_unlisted()):
            for path in filter(self.listing.is_gone, index.unlisted(paths)):
                self.changes.gone += 1
                if self._prune:
                    gone.append(path)
        return gone


class _NoRows:
    """A table without rows."""

    def index(self) -> RowIndex:
        return IndexBuilder().build()

    def paths_in(self, parts: Iterable[str]) -> Iterator[list[str]]:  # noqa: ARG002 - there are none
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

    def remove_rows(self, rows: Doomed) -> None:
        pass

    def relabel(self, labels: NewLabels) -> None:
        pass


def _look_up(index: RowIndex, files: Sequence[ImageFile]) -> list[Verdict]:
    uris = [file.uri for file in files]
    return index.verdicts(uris, [file.size for file in files], [file.modified for file in files])
