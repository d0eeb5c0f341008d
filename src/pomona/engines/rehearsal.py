"""What a run would do, on this machine's file system: counted, and nothing changed."""

from __future__ import annotations

from pomona.engines.job import Job, Summary, local_listing, summarize
from pomona.engines.worklist import NO_ROWS, Worklist
from pomona.table import STAGING, FeatureTable
from pomona.table_writer import check_writable

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
    worklist = Worklist(listing, retry_failed=job.retry_failed, prune=job.prune)
    worklist.rehearse(NO_ROWS if job.overwrite else table)
    return summarize(job, str(table.folder), worklist)


def has_work(job: Job, rehearsed: Summary) -> bool:
    """Whether a run would change anything, tidying up after one that was killed included."""
    changes = rehearsed.changes
    images = changes.to_do + changes.pruned
    left = FeatureTable.at(job.paths.table).folder.glob(f"{STAGING}*")
    return bool(images) or job.overwrite or any(left)
