"""What a run would do, on this machine's file system: counted, and nothing changed."""

from __future__ import annotations

from pomona.job.job import Job, Summary, local_listing, summarize
from pomona.job.plan import NO_ROWS
from pomona.table.feature_table import STAGING, FeatureTable
from pomona.table.label_record import needs_writing, read_label_rule
from pomona.table.writer import check_writable

__all__ = ["has_work", "rehearse"]


def rehearse(job: Job) -> Summary:
    """Hold the listing against the table. Neither engine is needed for that.

    Raises:
        SourceError, TableError: as a run would.
    """
    table = FeatureTable.at(job.paths.table)
    listing = local_listing(job.paths)
    listing.check()
    check_writable(table, job.provenance(), overwrite=job.overwrite)
    worklist = job.worklist(listing)
    worklist.rehearse(NO_ROWS if job.overwrite else table)
    return summarize(job, str(table.folder), worklist)


def has_work(job: Job, rehearsed: Summary) -> bool:
    """Whether a run would change anything, tidying up after one that was killed included."""
    changes = rehearsed.changes
    rows = changes.to_do + changes.pruned + changes.relabelled + changes.taken_over
    folder = FeatureTable.at(job.paths.table).folder
    left = folder.glob(f"{STAGING}*")
    has_rule = job.label_rule and needs_writing(job.label_rule, read_label_rule(folder))
    return bool(rows or has_rule) or job.overwrite or any(left)
