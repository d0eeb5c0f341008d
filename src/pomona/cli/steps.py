"""The bar of an analysis: what is done now and how far it is; on stderr, on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pomona.analysis.progress import Step, no_steps

__all__ = ["steps_bar"]


@contextmanager
def steps_bar() -> Iterator[Step]:
    """Give a function that draws a step, how much of it is done, and the time left."""
    if not sys.stderr.isatty():
        yield no_steps
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task("starting", total=None)
    current = ""

    def show(what: str, done: int, total: int) -> None:
        nonlocal current
        if what != current:
            bar.reset(task, description=what)  # each step has a clock of its own
            current = what
        bar.update(task, completed=done, total=max(total, 1))

    with bar:
        yield show
