"""The work of a run: the listing of the source, compared with the rows of the table.

    new       no row                                  computed
    moved     no row, but one has the same bytes      its vector is taken over
    changed   size or time differ from the row's      the row is deleted, then computed
    failed    a row without a vector                  deleted and computed, if requested
    label     the row has another label               the label is changed in place
    gone      a row whose file no longer exists       the row stays, or is deleted if requested

A plan reads the source and the table, each once, and changes nothing. `pomona.job.apply` carries
out its steps in order. A row is deleted before its image is computed again, not after: a kill in
between leaves a missing row, which the next run adds, and never two rows or a wrong one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, compress, islice
from typing import TYPE_CHECKING

import numpy as np

from pomona.job.changes import Changes
from pomona.job.gone_rows import GoneRows, Missing
from pomona.job.known_contents import KnownContents, content_keys, rows_for
from pomona.job.stored_digests import StoredDigests
from pomona.job.stored_kept import StoredKept
from pomona.source.image_file import ImageFile
from pomona.source.kept import NOTHING
from pomona.source.listing import Listing
from pomona.table.row_index import FileState, NewLabels, RowIndex, RowsToDelete, keys_of

if TYPE_CHECKING:
    import pyarrow as pa

    from pomona.job.tables import ReadableTable
    from pomona.source.labels import LabelRule

__all__ = ["Compute", "Delete", "Plan", "Relabel", "Step", "TakeOver"]

_LOOKED_UP = 4096  # files whose rows are looked up at once
_HASHED_AT_ONCE = 1024  # files: their rows are at most some megabytes
_HASHING = 8  # threads
_SET_ASIDE = 100_000  # files whose rows are deleted at once: about 30 MB


@dataclass(frozen=True, slots=True)
class Compute:
    """Compute images, after deleting their existing rows."""

    files: list[ImageFile]
    rows: RowsToDelete | None = None


@dataclass(frozen=True, slots=True)
class TakeOver:
    """Add rows whose vectors the table has under other paths."""

    rows: list[pa.RecordBatch]
    provenance: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Relabel:
    """Change the labels of rows."""

    labels: NewLabels


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete rows whose files no longer exist.

    Attributes:
        rows: the rows by part file.
        follows_work: whether images are computed in this run.
    """

    rows: RowsToDelete
    follows_work: bool


Step = Compute | TakeOver | Relabel | Delete


class Plan:
    """The steps of one run, found while the source is listed.

    Attributes:
        listing: the images, and folders that could not be listed.
        changes: the differences to the table, counted while `steps` is read.
    """

    def __init__(  # noqa: PLR0913 - the settings of a run
        self,
        listing: Listing,
        table: ReadableTable,
        label: LabelRule,
        *,
        relabel: bool,
        retry_failed: bool,
        prune: bool,
        missing: Missing,
        provenance: Mapping[str, str],
        max_pixels: int,
        kept: pa.Schema = NOTHING,
        stored_kept: Callable[[], StoredKept] | None = None,
    ) -> None:
        """Read nothing yet.

        Args:
            listing: the images.
            table: the table with existing rows.
            label: returns the label of an image.
            relabel: whether existing rows get the label of this rule.
            retry_failed: whether images whose row has no vector are computed again.
            prune: whether rows of images that no longer exist are deleted.
            missing: which of these rows stay, and whether those of other sources are deleted too.
            provenance: of the rows that the run adds.
            max_pixels: larger images have no vector.
            kept: columns of the source that the run keeps.
            stored_kept: if the run keeps columns of the source, loads their values in the table.
        """
        self.listing = listing
        self.changes = Changes()
        self._table = table
        self._label = label
        self._relabel = relabel
        self._to_relabel: set[str] = set()  # part files
        self._retry_failed = retry_failed
        self._gone = GoneRows(listing, missing, self.changes, prune=prune)
        self._provenance = provenance
        self._max_pixels = max_pixels
        self._known: KnownContents | None = None  # until a file may be known
        self._stored: StoredDigests | None = None  # until an image has a row
        self._kept = kept
        self._load_kept = stored_kept
        self._stored_kept: StoredKept | None = None  # until an image has a row
        self._taken: list[pa.Table] = []  # rows that are not in a step yet
        self._moved = [np.array([], np.uint64)]  # keys of contents that were taken over
        self._steps = self._found_steps()

    def steps(self) -> Iterator[Step]:
        """Yield the steps, each once."""
        return self._steps

    def has_steps(self) -> bool:
        """Return whether there is another step. This lists the source up to that step."""
        first = next(self._steps, None)
        if first is None:
            return False
        self._steps = chain([first], self._steps)
        return True

    def count(self) -> None:
        """List the whole source, so that `changes` has all numbers; carry out nothing."""
        for _ in self._steps:
            pass

    def _found_steps(self) -> Iterator[Step]:
        index = self._table.index()
        aside: list[ImageFile] = []
        maybe_known: list[ImageFile] = []
        files = self.listing.files()
        while chunk := list(islice(files, _LOOKED_UP if len(index) else 1)):
            states = self._look_up(index, chunk)
            self._compare_labels(index, chunk, states)
            sizes = index.has_vector_of_size([file.size for file in chunk])
            new: list[ImageFile] = []
            for file, state, same_size in zip(chunk, states, sizes, strict=True):
                if state is FileState.NEW:
                    (maybe_known if same_size else new).append(file)
                elif self._count(state):
                    aside.append(file)
            if new:
                self.changes.new += len(new)
                yield Compute(new)
            if len(maybe_known) >= _HASHED_AT_ONCE:
                yield from self._take_over(index, maybe_known)
                maybe_known = []
            if len(aside) >= _SET_ASIDE:
                yield _computed_again(index, aside)
                aside = []
        if maybe_known:
            yield from self._take_over(index, maybe_known)
        yield from self._taken_rows()
        if aside:
            yield _computed_again(index, aside)
        yield from self._new_labels(index)
        if gone := self._gone.to_delete(index, self._table, self._moved):
            yield Delete(index.rows_of(gone), follows_work=self.changes.to_do > 0)

    def _look_up(self, index: RowIndex, files: Sequence[ImageFile]) -> list[FileState]:
        states = self._look_up_contents(index, files)
        have_row = [at for at, state in enumerate(states) if state is not FileState.NEW]
        if self._load_kept and have_row:
            self._stored_kept = self._stored_kept or self._load_kept()
            uris, values = zip(*((files[at].uri, files[at].kept) for at in have_row), strict=True)
            for at in compress(have_row, self._stored_kept.differ(uris, values)):
                states[at] = FileState.CHANGED
        return states

    def _look_up_contents(self, index: RowIndex, files: Sequence[ImageFile]) -> list[FileState]:
        uris = [file.uri for file in files]
        if not self.listing.by_content:
            sizes, times = [file.size for file in files], [file.modified for file in files]
            states = index.states(uris, sizes, times)
            unseen = [at for at, file in enumerate(files) if file.is_unseen]
            for at, known in zip(unseen, index.known([uris[at] for at in unseen]), strict=True):
                states[at] = known
            return states
        states = index.known(uris)
        have_row = [at for at, state in enumerate(states) if state is not FileState.NEW]
        if have_row:
            self._stored = self._stored or StoredDigests(self._table, index.parts)
            digests = [self.listing.digest(files[at]) for at in have_row]
            differ = self._stored.differ([uris[at] for at in have_row], digests)
            for at in compress(have_row, differ):
                states[at] = FileState.CHANGED
        return states

    def _count(self, state: FileState) -> bool:
        """Count a file that has a row, and return whether it is computed again."""
        changes = self.changes
        if state is FileState.CHANGED:
            changes.changed += 1
        elif state is FileState.FAILED and self._retry_failed:
            changes.retried += 1
        else:
            changes.unchanged += 1
            return False
        return True

    def _compare_labels(
        self, index: RowIndex, files: Sequence[ImageFile], states: Sequence[FileState]
    ) -> None:
        """Count labels, and record the part files with other labels."""
        uris = [file.uri for file in files]
        labels = list(map(self._label, uris))
        self.changes.labelled += sum(label is not None for label in labels)
        keeps_row = [
            state is FileState.DONE or (state is FileState.FAILED and not self._retry_failed)
            for state in states
        ]
        others = list(compress(uris, keeps_row & index.has_other_label(uris, labels)))
        if self._relabel:
            self.changes.relabelled += len(others)
            self._to_relabel |= index.parts_of(others) if others else set()
        else:
            self.changes.labels_kept += len(others)

    def _new_labels(self, index: RowIndex) -> Iterator[Relabel]:
        """Yield the new labels of part files with other labels, in bounded memory."""
        found: NewLabels = {}
        for part in sorted(self._to_relabel):
            found[part] = {}
            for paths in self._table.paths_in([part]):
                listed = list(index.listed(paths))
                found[part] |= zip(keys_of(listed), map(self._label, listed), strict=True)
            if sum(map(len, found.values())) >= _SET_ASIDE:
                yield Relabel(found)
                found = {}
        if found:
            yield Relabel(found)

    def _take_over(self, index: RowIndex, files: Sequence[ImageFile]) -> Iterator[Step]:
        """Yield rows for files whose bytes have a row, and a step that computes the other files."""
        if self._known is None:
            self._known = KnownContents(self._table, index.parts, self._max_pixels)
        with ThreadPoolExecutor(_HASHING, "pomona-hash") as threads:
            digests = list(threads.map(self.listing.digest, files))
        rows = self._known.find(filter(None, digests))
        found = set(rows["content_sha256"].to_pylist())
        known: list[tuple[ImageFile, str]] = []
        new: list[ImageFile] = []
        for file, digest in zip(files, digests, strict=True):
            if digest and digest in found:
                known.append((file, digest))
            else:
                new.append(file)
        if new:
            self.changes.new += len(new)
            yield Compute(new)
        if known:
            moved = [file for file, _ in known]
            contents = [digest for _, digest in known]
            labels = [self._label(file.uri) for file in moved]
            self._taken.append(rows_for(moved, labels, contents, rows, self._kept))
            self._moved.append(content_keys(contents))
            self.changes.taken_over += len(known)
        if sum(map(len, self._taken)) >= _HASHED_AT_ONCE:
            yield from self._taken_rows()

    def _taken_rows(self) -> Iterator[TakeOver]:
        if self._taken:
            batches = [batch for rows in self._taken for batch in rows.to_batches()]
            self._taken = []
            yield TakeOver(batches, self._provenance)


def _computed_again(index: RowIndex, files: list[ImageFile]) -> Compute:
    return Compute(files, index.rows_of([file.uri for file in files]))
