"""What a run is asked to do, how it tells how far it is, and what it says in the end."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from pomona.io.location import local_path
from pomona.job.plan import Changes, Missing, Worklist
from pomona.plural import count_of
from pomona.source.listing import Listing, Source
from pomona.source.passed_over import PassedOver
from pomona.source.selection import KNOWN_IMAGES, Selection
from pomona.table.failed_files import NAMED_FAILURES, FailedFile

if TYPE_CHECKING:
    from pomona.encoder.encoder import Encoder
    from pomona.source.labels import LabelRule
    from pomona.worker.prepare import DecodeOptions

IMAGE_TIMEOUT_S = 120.0
STOPPING = "stopping after the images in hand; a second Ctrl-C or SIGTERM stops at once"

__all__ = [
    "IMAGE_TIMEOUT_S",
    "STOPPING",
    "Job",
    "JobPaths",
    "Outcome",
    "Progress",
    "Snapshot",
    "Summary",
    "local_listing",
    "local_uris",
    "no_progress",
    "note_kept",
    "summarize",
]


@dataclass(frozen=True, slots=True)
class JobPaths:
    """From where to where.

    Attributes:
        source: folder, file or glob; a path of this machine or a URI.
        table: folder of the feature table; likewise.
        selection: which files below the source are taken.
    """

    source: str
    table: str
    selection: Selection = KNOWN_IMAGES


@dataclass(frozen=True, slots=True)
class Job:
    """One extraction.

    Attributes:
        paths: from where to where.
        encoder: what turns images into vectors.
        label: what gives an image its label.
        label_rule: the same as it was asked for; None if nothing was asked for, now or before.
        decode: how images become pixels.
        overwrite: replace the table rather than continue it.
        retry_failed: do images again whose row has no vector.
        prune: remove rows whose file was in the source and is no more.
        missing: which of these rows stay, and whether those of other sources are removed too.
        dry_run: write nothing, find out what would be done.
        image_timeout_s: seconds that one image may take before its process is ended.
        wave_files: on Spark, the files of one commit; None for a number that suits the cores.
        encoder_location: from where Spark's workers read the encoder; None to send it to them.
        started: when the caller asked for it, on the monotonic clock.
    """

    paths: JobPaths
    encoder: Encoder
    label: LabelRule
    decode: DecodeOptions
    label_rule: str | None = None
    overwrite: bool = False
    retry_failed: bool = False
    prune: bool = False
    missing: Missing = field(default_factory=Missing)
    dry_run: bool = False
    image_timeout_s: float = IMAGE_TIMEOUT_S
    wave_files: int | None = None
    encoder_location: str | None = None
    started: float = field(default_factory=time.monotonic)

    def provenance(self) -> dict[str, str]:
        """What the table will say of how its rows were made."""
        return {**self.encoder.provenance(), **self.decode.provenance()}

    def worklist(self, listing: Listing) -> Worklist:
        """What finds the files to do."""
        return Worklist(
            listing,
            self.label,
            relabel=self.label_rule is not None,
            retry_failed=self.retry_failed,
            prune=self.prune,
            missing=self.missing,
            provenance=self.provenance(),
            max_pixels=self.decode.max_pixels,
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far a run is. `total` is None until the listing has ended."""

    done: int
    failed: int
    total: int | None


def local_listing(paths: JobPaths) -> Listing:
    """Begin to list a source on this machine, but for a table that lies in it.

    Raises:
        SourceError: it is missing.
    """
    table = os.path.abspath(local_path(paths.table))  # noqa: PTH100
    source = Source(paths.source, paths.selection, table)
    source.check()
    return Listing(paths.source, source.files, source.is_gone)


def local_uris(paths: JobPaths) -> Iterator[str]:
    """The paths of all images of a source on this machine, as in the table."""
    table = os.path.abspath(local_path(paths.table))  # noqa: PTH100
    source = Source(paths.source, paths.selection, table)
    for file in source.files(lambda _: None):
        yield file.uri


Progress = Callable[[Snapshot], None]


def no_progress(_: Snapshot) -> None:
    """Show nothing."""


def note_kept(stop: BaseException, images: int, table: str) -> None:
    """Note on what stops a run how many of its images have their row in the table."""
    kept = f"{count_of(images, 'image')} of this run {'is' if images == 1 else 'are'} kept"
    stop.add_note(f"{kept} in {table}" if images else "no image of this run was done")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run has written.

    Attributes:
        counts: rows, by status.
        failed_files: rows without a vector, or the first few of them.
        model_loads: how often the network was loaded, over all processes.
    """

    counts: Counter[str] = field(default_factory=Counter)
    failed_files: Sequence[FailedFile] = ()
    model_loads: int = 0


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did.

    Attributes:
        files: images that the source listed.
        ok: rows written with a vector.
        failed: rows written without a vector; `by_status` says why.
        skipped: images that already had a row.
        changes: how the source differed from the table before the run.
        seconds: from the call to the last row, including Spark's start and building the encoder.
        table: location of the rows.
        encoder: fingerprint of the encoder.
        model_loads: how often the network was loaded, over all processes.
        dry_run: True if the run only counted.
        by_status: rows written, by status.
        failed_files: the first few rows written without a vector.
        unlisted: folders that could not be listed, each with its reason.
        passed_over: files and folders of the source that the run did not select, counted.
        label_rule: the label rule, as `label` takes it.
    """

    files: int
    ok: int
    failed: int
    skipped: int
    changes: Changes
    seconds: float
    table: str
    encoder: str
    model_loads: int
    dry_run: bool = False
    by_status: Counter[str] = field(default_factory=Counter)
    failed_files: tuple[FailedFile, ...] = ()
    unlisted: tuple[str, ...] = ()
    passed_over: PassedOver = field(default_factory=PassedOver)
    label_rule: str = "parent"

    @property
    def images_per_second(self) -> float:
        """Return the rows that this run wrote, divided by its seconds."""
        return (self.ok + self.failed) / self.seconds if self.seconds else 0.0

    def to_json(self) -> dict[str, object]:
        """Return the object that `pomona extract --json` prints."""
        return {
            "files": self.files,
            "ok": self.ok,
            "failed": self.failed,
            "skipped": self.skipped,
            "new": self.changes.new,
            "changed": self.changes.changed,
            "retried": self.changes.retried,
            "gone": self.changes.gone,
            "pruned": self.changes.pruned,
            "taken_over": self.changes.taken_over,
            "missing": self.changes.missing,
            "missing_kept": self.changes.missing_kept,
            "absent_folders": dict(self.changes.absent_folders),
            "labels_changed": self.changes.relabelled,
            "labels_kept": self.changes.labels_kept,
            "labelled": self.changes.labelled,
            "label": self.label_rule,
            "dry_run": self.dry_run,
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.images_per_second, 1),
            "table": self.table,
            "encoder": self.encoder,
            "model_loads": self.model_loads,
            "by_status": dict(self.by_status),
            "failed_files": [asdict(file) for file in self.failed_files],
            "unlisted": list(self.unlisted),
            **self.passed_over.to_json(),
        }


def summarize(
    job: Job,
    table: str,
    worklist: Worklist,
    outcome: Outcome | None = None,
) -> Summary:
    """Say what a run did that has just ended: either engine's last step."""
    outcome = outcome or Outcome()
    counts = outcome.counts
    return Summary(
        files=worklist.listing.files_listed,
        ok=counts["ok"],
        failed=counts.total() - counts["ok"],
        skipped=worklist.changes.unchanged,
        changes=worklist.changes,
        seconds=time.monotonic() - job.started,
        table=table,
        encoder=job.encoder.fingerprint,
        model_loads=outcome.model_loads,
        dry_run=job.dry_run,
        by_status=counts,
        failed_files=tuple(outcome.failed_files[:NAMED_FAILURES]),
        unlisted=tuple(worklist.listing.unlisted),
        passed_over=worklist.listing.passed_over,
        label_rule=job.label_rule or "parent",
    )
