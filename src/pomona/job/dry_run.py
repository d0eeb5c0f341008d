"""What a run would do on this machine's file system, found without an engine."""

from __future__ import annotations

from dataclasses import dataclass

from pomona.io.folders import Entry
from pomona.job.job import Job, local_listing
from pomona.job.plan import Plan
from pomona.job.summary import Summary, summarize
from pomona.table.feature_table import STAGING, FeatureTable
from pomona.table.label_record import needs_writing, read_label_rule
from pomona.table.store import LocalStore, part_entries
from pomona.table.writer import check_writable

__all__ = ["EarlyPlan", "rehearse"]


@dataclass(frozen=True, slots=True)
class EarlyPlan:
    """A plan that was made before the table was locked.

    Attributes:
        job: what is asked for.
        table: as it was found.
        plan: of what is missing there.
        parts: part files of the table at that time, by name.
    """

    job: Job
    table: FeatureTable
    plan: Plan
    parts: dict[str, Entry]

    @classmethod
    def of(cls, job: Job) -> EarlyPlan:
        """Check the source and the table, and plan. No engine is needed for that.

        Raises:
            SourceError, TableError: as a run would.
        """
        table = FeatureTable.at(job.paths.table)
        listing = local_listing(job.paths)
        listing.check()
        check_writable(table, job.provenance(), overwrite=job.overwrite)
        return cls(job, table, job.plan(listing, table), part_entries(LocalStore(table.folder)))

    def has_work(self) -> bool:
        """Whether a run would change anything, which includes tidying up after a killed one."""
        rule, folder = self.job.label_rule, self.table.folder
        has_rule = rule and needs_writing(rule, read_label_rule(LocalStore(folder)))
        return (
            self.job.overwrite
            or bool(has_rule)
            or any(folder.glob(f"{STAGING}*"))
            or self.plan.has_steps()
        )

    def holds(self) -> bool:
        """Whether the plan may be carried out: nobody has changed the table since it was made."""
        return self.job.overwrite or part_entries(LocalStore(self.table.folder)) == self.parts

    def summary(self) -> Summary:
        """What the run did, if it has nothing to do or is a dry run."""
        return summarize(self.job, str(self.table.folder), self.plan)


def rehearse(job: Job) -> Summary:
    """Return what a run would do. Nothing changes.

    Raises:
        SourceError, TableError: as a run would.
    """
    early = EarlyPlan.of(job)
    early.plan.count()
    return early.summary()
