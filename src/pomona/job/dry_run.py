"""What a run would do determined without an engine."""

from __future__ import annotations

from dataclasses import dataclass

from pomona.io.folders import Entry
from pomona.job.job import Job, images_of
from pomona.job.plan import Plan
from pomona.job.summary import Summary, summarize
from pomona.source.listing import Listing
from pomona.table.feature_table import STAGING, FeatureTable
from pomona.table.label_record import needs_writing, read_label_rule
from pomona.table.store import part_entries
from pomona.table.writer import check_writable

__all__ = ["EarlyPlan", "rehearse"]


@dataclass(frozen=True, slots=True)
class EarlyPlan:
    """A plan that was made before the table was locked.

    Attributes:
        job: the job.
        table: the table when the plan was made.
        plan: the plan for that table.
        parts: part files of the table at that time, by name.
    """

    job: Job
    table: FeatureTable
    plan: Plan
    parts: dict[str, Entry]

    @classmethod
    def of(cls, job: Job, listing: Listing | None = None) -> EarlyPlan:
        """Check the source and the table, and make a plan, without an engine.

        Args:
            job: the job.
            listing: the listing of the source, if it was begun.

        Raises:
            SourceError: the source cannot be read.
            TableError: the table cannot be written.
        """
        table = FeatureTable.at(job.paths.table, delta=job.paths.delta)
        listing = listing or Listing.of(images_of(job.paths))
        listing.check()
        check_writable(table, job.provenance(), overwrite=job.overwrite, kept=job.kept)
        return cls(job, table, job.plan(listing, table), part_entries(table.store))

    def has_work(self) -> bool:
        """Return whether a run would change anything, including leftovers of a killed run."""
        rule, store = self.job.label_rule, self.table.store
        has_rule = rule and needs_writing(rule, read_label_rule(store))
        return (
            self.job.overwrite
            or bool(has_rule)
            or any(name.startswith(STAGING) for name in store.entries())
            or self.plan.has_steps()
        )

    def holds(self) -> bool:
        """Return whether the plan is still valid: the table has not changed since it was made."""
        return self.job.overwrite or part_entries(self.table.store) == self.parts

    def summary(self) -> Summary:
        """Return the summary of a run that has nothing to do or is a dry run."""
        return summarize(self.job, str(self.table), self.plan)


def rehearse(job: Job, listing: Listing | None = None) -> Summary:
    """Return what a run would do, without changing anything.

    Args:
        job: the job.
        listing: the listing of the source, if it was begun.

    Raises:
        SourceError: the source cannot be read.
        TableError: the table cannot be written.
    """
    early = EarlyPlan.of(job, listing)
    early.plan.count()
    return early.summary()
