"""How far something is: one protocol for runs and for analyses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Progress", "Snapshot", "no_progress"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far something is.

    Attributes:
        what: what is done now, such as `extracting` or `comparing`.
        done: images or rows, or parts of the work.
        total: how many there are; None until that is known.
        failed: those of `done` without a result.
    """

    what: str
    done: int
    total: int | None
    failed: int = 0


Progress = Callable[[Snapshot], None]
"""Is called with how far something is, from time to time."""


def no_progress(_: Snapshot) -> None:
    """Show nothing."""
