"""Progress: one protocol for runs and for analyses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Progress", "Snapshot", "no_progress"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The progress of some work.

    Attributes:
        what: the current step, such as `extracting` or `comparing`.
        done: number of images, rows or parts of the work that are done.
        total: number of all; None until it is known.
        failed: number of those in `done` without a result.
    """

    what: str
    done: int
    total: int | None
    failed: int = 0


Progress = Callable[[Snapshot], None]
"""A function that is called with the progress from time to time."""


def no_progress(_: Snapshot) -> None:
    """Do nothing."""
