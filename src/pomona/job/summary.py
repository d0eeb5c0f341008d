"""The results of a run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from pomona.job.changes import Changes
from pomona.messages import count_of
from pomona.source.passed_over import PassedOver
from pomona.table.failed_files import NAMED_FAILURES, FailedFile

if TYPE_CHECKING:
    from pomona.job.job import Job
    from pomona.job.plan import Plan

__all__ = [
    "STOPPING",
    "Outcome",
    "Summary",
    "note_kept",
    "summarize",
]

STOPPING = "stopping after the images in hand; a second Ctrl-C or SIGTERM stops at once"


def note_kept(stop: BaseException, images: int, table: str) -> None:
    """Add a note to the exception that stops a run: how many of its images are in the table."""
    kept = f"{count_of(images, 'image')} of this run {'is' if images == 1 else 'are'} kept"
    stop.add_note(f"{kept} in {table}" if images else "no image of this run was done")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The rows that a run has written.

    Attributes:
        counts: number of rows by status.
        failed_files: rows without a vector, or the first few of them.
        model_loads: how often the network was loaded, over all processes.
    """

    counts: Counter[str] = field(default_factory=Counter)
    failed_files: Sequence[FailedFile] = ()
    model_loads: int = 0


@dataclass(frozen=True, slots=True)
class Summary:
    """The result of a run.

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

    @property
    def has_changed_table(self) -> bool:
        """Return whether the run has written, changed or deleted rows."""
        changes = self.changes
        changed_rows = changes.relabelled + changes.pruned + changes.taken_over
        return bool(self.ok + self.failed + changed_rows)

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
    plan: Plan,
    outcome: Outcome | None = None,
) -> Summary:
    """Return the summary of a run that has just ended, for both engines."""
    outcome = outcome or Outcome()
    counts = outcome.counts
    return Summary(
        files=plan.listing.files_listed,
        ok=counts["ok"],
        failed=counts.total() - counts["ok"],
        skipped=plan.changes.unchanged,
        changes=plan.changes,
        seconds=time.monotonic() - job.started,
        table=table,
        encoder=job.encoder.fingerprint,
        model_loads=outcome.model_loads,
        dry_run=job.dry_run,
        by_status=counts,
        failed_files=tuple(outcome.failed_files[:NAMED_FAILURES]),
        unlisted=tuple(plan.listing.unlisted),
        passed_over=plan.listing.passed_over,
        label_rule=job.label_rule or "parent",
    )
