"""The progress bar of the command line, on stderr, and only where that is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pomona.job.summary import Progress, Snapshot, no_progress
from pomona.plural import count_of

__all__ = ["progress_bar"]


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Give a function that draws how far a run is: images/s, done, failed, time left."""
    if not sys.stderr.isatty():
        yield no_progress
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.fields[of]}"),
        TextColumn("{task.fields[rate]}/s"),
        TextColumn("{task.fields[failed]:,} failed"),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task("starting", total=None, of="?", rate=count_of(0, "image"), failed=0)
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
            description="extracting" if snapshot.done else "starting",
            completed=snapshot.done,
            total=snapshot.total,
            of="?" if snapshot.total is None else f"{snapshot.total:,}",
            rate=count_of(round(rate), "image"),
            failed=snapshot.failed,
        )

    with bar:
        yield show
