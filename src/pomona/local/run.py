"""The embedded engine: worker processes on this machine, no JVM.

    source -> queue -> thread + worker process, one for each core -> part file -> table

Each thread supervises one process. It sends chunks of images, requests to close the part file if
that is large or old enough, and renames the file into the table. The threads only wait, so the
workers have the cores. If a process is killed, another one repeats the images of its open part
file. An image that kills its process twice gets the row `crashed`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial

from pomona.cores import available_cores
from pomona.encoder.encoder import Encoder
from pomona.job.dry_run import rehearse
from pomona.job.job import Job, images_of
from pomona.job.plan import Plan
from pomona.job.summary import STOPPING, Summary, note_kept, summarize
from pomona.local.run_state import RunState
from pomona.local.supervisor import Supervisor
from pomona.progress import Progress, Snapshot, no_progress
from pomona.runtime.registry import computes_on_gpu
from pomona.source.listing import Listing
from pomona.table.feature_table import FeatureTable
from pomona.table.label_record import keep_label_rule
from pomona.table.writer import writing

__all__ = ["extract", "go", "workers_for"]

_log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.1
_CORES_FOR_A_GPU = (
    4  # cores of each process: its threads share Python's lock, processes share GPU memory
)


def extract(
    job: Job,
    workers: int | None = None,
    progress: Progress = no_progress,
    listing: Listing | None = None,
) -> Summary:
    """Run a job in worker processes on this machine.

    Args:
        job: the job.
        workers: number of processes; by default one for each core. On a GPU, one for each four
            cores, whose threads decode.
        progress: called about ten times a second with the progress.
        listing: the listing of the source, if it was begun.

    Raises:
        SourceError: the source cannot be read; nothing was written.
        TableError: the table cannot be written; nothing was written.
        RunError: the run could not continue; rows written so far stay.
    """
    if job.dry_run:
        return rehearse(job, listing)
    table = FeatureTable.at(job.paths.table, delta=job.paths.delta)
    listing = listing or Listing.of(images_of(job.paths))
    listing.check()
    plan = job.plan(listing, table)
    with writing(table, job.provenance(), overwrite=job.overwrite, kept=job.kept) as writer:
        if job.label_rule:
            keep_label_rule(table.store, job.label_rule)
        workers = workers or workers_for(job.encoder)
        state = RunState(job, listing.reader, writer, workers)
        go(job, state, plan, progress)
        writer.compact()
    return summarize(job, str(table), plan, state.outcome())


def workers_for(encoder: Encoder) -> int:
    """Return the number of processes for an encoder on this machine."""
    cores = available_cores()
    return max(1, cores // _CORES_FOR_A_GPU) if computes_on_gpu(encoder) else cores


def go(job: Job, state: RunState, plan: Plan, progress: Progress, kept: int = 0) -> None:
    """Compute the images of a plan in a table that is held.

    An exception that stops the run gets a note about the images that are in the table.

    Args:
        job: the job.
        state: the state of this run.
        plan: the plan.
        progress: called about ten times a second with the progress.
        kept: images of earlier runs to add in that note.
    """
    try:
        _Run(job, state, plan).go(progress)
    except BaseException as stop:
        note_kept(stop, kept + state.counts.total(), job.paths.table)
        raise


class _Thread(threading.Thread):
    """A thread of a run. Wait for its event; do not join it.

    Before Python 3.13, a thread counts as ended if a signal interrupts its `join`.
    """

    def __init__(self, task: Callable[[], None]) -> None:
        super().__init__()
        self.ended = threading.Event()
        self._task = task

    def run(self) -> None:
        """Run the task."""
        try:
            self._task()
        finally:
            self.ended.set()


class _Run:
    """One run: the listing thread, the supervising threads, and the thread that watches them."""

    def __init__(self, job: Job, state: RunState, plan: Plan) -> None:
        self._job = job
        self._state = state
        self._plan = plan
        self._failure: BaseException | None = None
        self._supervisors = [Supervisor(state, number) for number in range(state.workers)]

    def go(self, progress: Progress) -> None:
        """Do the run."""
        tasks = [supervisor.keep for supervisor in self._supervisors]
        tasks.append(lambda: self._state.carry_out(self._plan))
        threads = [_Thread(partial(self._guard, task)) for task in tasks]
        self._go(threads, progress)
        if self._failure:
            raise self._failure
        self._state.finish()

    def _guard(self, task: Callable[[], None]) -> None:
        """Run a thread's task; its exception ends the run, and the main thread raises it."""
        try:
            task()
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self._failure = self._failure or error
            self._state.stop()

    def _go(self, threads: list[_Thread], progress: Progress) -> None:
        """Run the threads until they are done, or until the caller stops the run."""
        try:
            for thread in threads:
                thread.start()
            self._watch(threads, progress)
        except BaseException:  # Ctrl-C, SIGTERM, a notebook's stop button
            _log.warning(STOPPING)
            self._finish(threads, progress)
            raise
        finally:
            self._state.stop()
            for supervisor in self._supervisors:
                supervisor.stop("the run was stopped")
            for thread in threads:
                if thread.ident is not None:  # otherwise it never started
                    thread.ended.wait()

    def _finish(self, threads: list[_Thread], progress: Progress) -> None:
        """Let the images in progress finish, and commit the open part files.

        A second Ctrl-C or SIGTERM is raised here, and the processes are killed.
        """
        self._state.stop()
        for supervisor in self._supervisors:
            supervisor.finish()
        self._watch([thread for thread in threads if thread.ident is not None], progress)

    def _watch(self, threads: list[_Thread], progress: Progress) -> None:
        """Show the progress and kill processes that hang, until the threads are done."""
        while self._failure is None and (running := [t for t in threads if not t.ended.is_set()]):
            for supervisor in self._supervisors:
                supervisor.look(self._job.image_timeout_s)
            progress(self._snapshot())
            running[0].ended.wait(_LOOK_EVERY_S)
        progress(self._snapshot())

    def _snapshot(self) -> Snapshot:
        done = self._state.counts.total()
        failed = done - self._state.counts["ok"]
        for supervisor in self._supervisors:
            more_done, more_failed = supervisor.uncommitted()
            done, failed = done + more_done, failed + more_failed
        return Snapshot("extracting", done, self._state.queue.total, failed)
