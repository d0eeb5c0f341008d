"""The bars of the command line: on stderr, and only if that is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pomona.messages import count_of
from pomona.progress import Progress, Snapshot, no_progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


__all__ = ["progress_bar", "steps_bar"]


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Yield a function that shows how far a run is: images/s, done, failed, time left."""
    if not sys.stderr.isatty():
        yield no_progress
        return
    began: tuple[float, int] | None = None  # when the first images were seen done, and how many

    def show(snapshot: Snapshot) -> None:
        nonlocal began
        now = time.monotonic()
        if began is None and snapshot.done:
            began = (now, snapshot.done)
        elapsed = now - began[0] if began else 0.0
        rate = (snapshot.done - began[1]) / elapsed if began and elapsed else 0.0
        bar.update(
            task,
            description=snapshot.what if snapshot.done else "starting",
            completed=snapshot.done,
            total=snapshot.total,
            of="?" if snapshot.total is None else f"{snapshot.total:,}",
            rate=count_of(round(rate), "image"),
            failed=snapshot.failed,
        )

    bar = _bar(
        "{task.completed:,.0f}/{task.fields[of]}",
        "{task.fields[rate]}/s",
        "{task.fields[failed]:,} failed",
    )
    task = bar.add_task("starting", total=None, of="?", rate=count_of(0, "image"), failed=0)
    with bar:
        yield show


@contextmanager
def steps_bar() -> Iterator[Progress]:
    """Yield a function that shows a step, how much of it is done, and the time left."""
    if not sys.stderr.isatty():
        yield no_progress
        return
    current = ""

    def show(snapshot: Snapshot) -> None:
        nonlocal current
        if snapshot.what != current:
            bar.reset(task, description=snapshot.what)  # each step has its own clock
            current = snapshot.what
        bar.update(task, completed=snapshot.done, total=max(snapshot.total or 0, 1))

    bar = _bar("{task.percentage:3.0f} %")
    task = bar.add_task("starting", total=None)
    with bar:
        yield show


def _bar(*columns: str) -> Bar:
    """Make a bar that is removed at the end, with these columns before the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        *map(TextColumn, columns),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
        transient=True,
    )
