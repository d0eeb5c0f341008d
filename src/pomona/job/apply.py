"""Carries out a plan: it changes rows here, and the engines compute the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pomona.job.plan import Compute, Delete, Plan, Relabel, TakeOver

if TYPE_CHECKING:
    from pomona.job.tables import ChangeableTable
    from pomona.source.image_file import ImageFile

__all__ = ["files_to_compute"]


def files_to_compute(
    plan: Plan, table: ChangeableTable, check: Callable[[], None] = lambda: None
) -> Iterator[ImageFile]:
    """Carry out the steps of a plan, and yield the files to compute.

    A file that has a row is yielded after that row was deleted.

    Args:
        plan: the plan.
        table: the table, held for this run.
        check: called before rows are deleted if images are computed; raises if they cannot be.
    """
    for step in plan.steps():
        match step:
            case Compute(files, rows):
                if rows:
                    check()
                    table.delete_rows(rows)
                yield from files
            case TakeOver(batches, provenance):
                table.append_batches(batches, provenance)
            case Relabel(labels):
                table.relabel(labels)
            case Delete(rows, follows_work):
                if follows_work:
                    check()
                table.delete_rows(rows)
