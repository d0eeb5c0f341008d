"""Following a source: runs one after another, until the caller stops them.

The table stays locked, and the worker processes stay alive with their encoder loaded. A look that
finds nothing to do starts no process.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NoReturn

from pomona.errors import SourceError
from pomona.job.job import Job, images_of
from pomona.job.options import Follow
from pomona.job.summary import Summary, note_kept, summarize
from pomona.local.run import go, workers_for
from pomona.local.run_state import RunState
from pomona.processes.worker_client import WorkerProcess
from pomona.progress import Progress, no_progress
from pomona.source import listing as folders
from pomona.source.archives import listing as archives
from pomona.source.archives.listing import Archives
from pomona.source.arriving import Arriving
from pomona.source.image_list import ImageList
from pomona.source.images import Images
from pomona.source.labels import ColumnLabels
from pomona.source.listing import Listing
from pomona.table.feature_table import FeatureTable
from pomona.table.label_record import keep_label_rule
from pomona.table.part_file import small_parts
from pomona.table.writer import TableWriter, writing

__all__ = ["follow"]

_log = logging.getLogger(__name__)

_PAUSE_PER_LOOK = 9  # looking takes at most a tenth of the time
_ARRIVING_S = 2.0  # the pause after a look that held files back
_MOST_SMALL_PARTS = 100  # a merge hides rows for milliseconds, and reads up to 48 MiB again


def follow(
    job: Job, how: Follow, workers: int | None = None, progress: Progress = no_progress
) -> NoReturn:
    """Run a job in worker processes on this machine, and again whenever the source has changed.

    Args:
        job: the job; `overwrite` and `retry_failed` hold for its first run.
        how: how often to look, and what is called with the summaries.
        workers: number of processes; by default as for one run.
        progress: called with the progress of the first run.

    Raises:
        SourceError: the source could not be read at the first look; nothing was written.
        TableError: the table cannot be written; nothing was written.
        RunError: the run could not continue; rows written so far stay.
    """
    with _messages_once():
        _Follower(job, how, workers or workers_for(job.encoder)).go(progress)


class _Follower:
    """The state between two runs."""

    def __init__(self, job: Job, how: Follow, workers: int) -> None:
        self._job = job
        self._how = how
        self._workers = workers
        self._table = FeatureTable.at(job.paths.table, delta=job.paths.delta)
        self._arriving = Arriving()
        self._warm: list[WorkerProcess] = []
        self._problem = ""  # why the source could not be read at the last look
        self._kept = 0

    def go(self, progress: Progress) -> NoReturn:
        job = self._job
        started = time.monotonic()
        images, listing = self._look()
        try:
            with writing(
                self._table, job.provenance(), overwrite=job.overwrite, kept=job.kept
            ) as writer:
                if job.label_rule:
                    keep_label_rule(self._table.store, job.label_rule)
                look_s = time.monotonic() - started
                summary, more_s = self._run(images, listing, writer, progress)
                writer.compact()
                self._how.on_run(summary)
                self._job = replace(job, overwrite=False, retry_failed=False)
                while True:
                    time.sleep(self._pause(look_s + more_s))
                    look_s, more_s = self._look_again(writer), 0.0
        except BaseException as stop:
            if not getattr(stop, "__notes__", ()):
                note_kept(stop, self._kept, job.paths.table)
            raise
        finally:
            for process in self._warm:
                process.close()

    def _look_again(self, writer: TableWriter) -> float:
        """Do a run if the source has changed, and return how many seconds looking took."""
        started = time.monotonic()
        self._job = replace(self._job, started=started)
        try:
            images, listing = self._look()
        except SourceError as error:  # unmounted, or a list that is being written
            if str(error) != self._problem:
                _log.warning("%s; waiting for it", error)
            self._problem = str(error)
            return time.monotonic() - started
        self._problem = ""
        look_s = time.monotonic() - started
        summary, more_s = self._run(images, listing, writer, no_progress)
        if len(small_parts(writer.sizes())) > _MOST_SMALL_PARTS:
            writer.compact()
        if summary.has_changed_table:
            self._how.on_run(summary)
        return look_s + more_s

    def _look(self) -> tuple[Images, Listing]:
        images = images_of(self._job.paths)
        if isinstance(images, ImageList) and images.kept() != self._job.kept:
            raise SourceError(f"{images.name} has columns for `keep` of other types than before")
        return images, Listing.of(images, self._arriving)

    def _run(
        self, images: Images, listing: Listing, writer: TableWriter, progress: Progress
    ) -> tuple[Summary, float]:
        """Do one run; return its summary, and how many seconds of it were spent looking."""
        job = self._with_labels(images)
        plan = job.plan(listing, self._table)
        state = RunState(job, images.reader, writer, self._workers, self._warm)
        go(job, state, plan, progress, self._kept)
        self._kept += state.counts.total()
        return summarize(job, str(self._table), plan, state.outcome()), state.looked_s

    def _with_labels(self, images: Images) -> Job:
        """Return the job with the labels that a list or an archive has now."""
        rule = self._job.label
        if not (isinstance(rule, ColumnLabels) and isinstance(images, Archives | ImageList)):
            return self._job
        return replace(self._job, label=replace(rule, labels=images.labels(rule.column)))

    def _pause(self, look_s: float) -> float:
        every_s = self._how.every_s
        if self._arriving.waits:
            every_s = min(every_s, _ARRIVING_S)
        return max(every_s, _PAUSE_PER_LOOK * look_s)


class _OncePerPath(logging.Filter):
    """Lets the first message of each kind about a path through: each look finds it again."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[tuple[str, object]] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        about = record.args[0] if isinstance(record.args, tuple) and record.args else None
        is_new = (record.msg, about) not in self._seen
        self._seen.add((record.msg, about))
        return is_new


@contextmanager
def _messages_once() -> Iterator[None]:
    """Repeat no message about a folder that cannot be listed, or an archive that is damaged."""
    once = _OncePerPath()
    logs = [logging.getLogger(name) for name in (folders.__name__, archives.__name__)]
    for log in logs:
        log.addFilter(once)
    try:
        yield
    finally:
        for log in logs:
            log.removeFilter(once)
