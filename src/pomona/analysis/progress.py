"""How an analysis tells how far it is: what it does now, how much is done, and of how much."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Step", "no_steps"]

Step = Callable[[str, int, int], None]
"""Is told what is being done (`comparing`), how much of it is done, and how much there is."""


def no_steps(_what: str, _done: int, _total: int) -> None:
    """Show nothing."""
