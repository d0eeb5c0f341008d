"""The Spark engine: `mapInArrow`, running the embedded engine's own worker.

    listing -> waves of files -> tasks: mapInArrow(read, worker, Parquet) -> read back

The driver lists the files. It sends each task a share of the list, and the worker reads the images
and writes a part file. Files of Hadoop file systems reach the worker through `binaryFile`, and the
JVMs write tables there. The driver reads back the paths
that a wave has written, and makes the missing rows itself, each with its reason
(`pomona.spark.driver_fallback`). Image bytes are never shuffled.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections import Counter, deque
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from queue import SimpleQueue
from typing import TYPE_CHECKING

from pomona.errors import RunError
from pomona.job.apply import files_to_compute
from pomona.job.dry_run import EarlyPlan
from pomona.job.job import Job
from pomona.job.plan import Plan
from pomona.job.summary import STOPPING, Outcome, Summary, note_kept, summarize
from pomona.messages import count_of
from pomona.progress import Progress, Snapshot, no_progress
from pomona.spark.binary_files import read_images
from pomona.spark.cluster.cluster import cluster_of
from pomona.spark.dataframe.task import Task
from pomona.spark.driver_fallback import DriverFallback
from pomona.spark.encoder_transport import encoder_handle
from pomona.spark.errors import lost_a_worker, spark_errors
from pomona.spark.file_shares import share_files, task_count
from pomona.spark.signals import signal_handlers
from pomona.spark.storage.parquet import Written
from pomona.spark.unreadable_files import UnreadableFiles

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from pomona.source.image_file import ImageFile
    from pomona.spark.storage.choose import ImageStore, TableStore
    from pomona.table.failed_files import FailedFile

__all__ = ["extract"]

_log = logging.getLogger(__name__)

_WAVE_FILES_PER_CORE = 20_000  # a wave is one commit: if the driver dies, running waves are lost
_LOOK_EVERY_S = 0.3


def extract(  # noqa: PLR0913 - one job, and where it runs
    job: Job,
    images: ImageStore,
    rows: TableStore,
    spark: SparkSession,
    progress: Progress = no_progress,
    *,
    early: EarlyPlan | None = None,
) -> Summary:
    """Run a job on Spark.

    Args:
        job: the source, the table and the settings.
        images: the storage of the images.
        rows: the storage of the table.
        spark: a session whose settings may be changed, such as `session()` of
            `pomona.spark.session.session` yields.
        progress: called about three times a second with the counts so far.
        early: a plan that was made before Spark started.

    Raises:
        SourceError: the source cannot be read. Nothing was written.
        TableError: the table cannot be written. Nothing was written.
        RunError: the run could not continue. Rows written so far stay.
    """
    if early is None:
        images.listing.check()
    table = job.paths.table
    with spark_errors(RunError, "Spark could not continue"):
        if job.dry_run:
            rows.check(job)
            plan = job.plan(images.listing, rows)
            plan.count()
            return summarize(job, table, plan)
        with rows.writing(job):
            if job.label_rule:
                rows.keep_label_rule(job.label_rule)
            holds = early and early.holds()
            plan = early.plan if early and holds else job.plan(images.listing, rows)
            run = _Run(job, images, rows, plan, spark)
            _watch(run, progress)
    outcome = Outcome(run.counts, run.failed_files, run.model_loads())
    return summarize(job, table, plan, outcome)


class _Run:
    """One run on Spark."""

    def __init__(
        self,
        job: Job,
        images: ImageStore,
        rows: TableStore,
        plan: Plan,
        spark: SparkSession,
    ) -> None:
        self.counts: Counter[str] = Counter()  # rows in the table by this run, by status
        self.failed_files: list[FailedFile] = []  # the first few of each wave
        self.table = job.paths.table
        self._job = job
        self._images = images
        self._rows = rows
        self._plan = plan
        self._unreadable = UnreadableFiles(images)
        self._fallback = DriverFallback(job, images, rows)
        self._total: int | None = None
        self._in_hand = 0  # images of the running waves
        self._finishing = False  # no further wave starts
        self._stopped = False  # and running ones are cancelled
        self._cores = 1
        self._encoder = encoder_handle(spark, job.encoder, job.encoder_location)
        self._cluster = cluster_of(spark)
        self._sessions = self._cluster.sessions()
        self._lock = threading.Lock()

    def do(self) -> None:
        """Write the missing rows, wave by wave."""
        try:
            with self._cluster.running():
                self._cluster.claim_thread()  # it reads the index, and deletes rows
                self._do_waves()
                if not self._finishing:
                    self._rows.compact()
        finally:
            self.counts.update(self._fallback.done)
            self.failed_files += self._fallback.failed_files
            self._fallback.close()
            self._encoder.release()

    def finish(self) -> str:
        """Start no further wave, and let running ones end and be committed.

        If the workers can see the stop file, they end after the images they have in hand.

        Returns:
            One line that says what the run waits for.
        """
        self._finishing = True
        self._fallback.stop()
        stop_file = self._rows.stop_file()
        if stop_file is not None:
            stop_file.touch()
        elif in_hand := self._in_hand:
            return (
                f"stopping after the running waves, {count_of(in_hand, 'image')}: these workers "
                "cannot stop earlier; a second Ctrl-C or SIGTERM cancels them and discards their "
                "images"
            )
        return STOPPING

    def stop(self) -> None:
        """Start nothing more, and cancel running jobs."""
        self._finishing = self._stopped = True
        self._fallback.stop()
        self._cluster.cancel()

    def stop_until_done(self, futures: Collection[Future[None]]) -> None:
        """Stop repeatedly, since a job may start between two calls, until all futures are done."""
        self.stop()
        while wait(futures, timeout=_LOOK_EVERY_S).not_done:
            self.stop()

    def _do_waves(self) -> None:
        """Do the waves. The next one starts while the last tasks of one still run."""
        files = files_to_compute(self._plan, self._rows)
        free: SimpleQueue[SparkSession] = SimpleQueue()
        for session in self._sessions:
            free.put(session)

        def do(wave: list[ImageFile], *, last: bool) -> None:
            session = free.get()
            try:
                if not self._finishing:
                    self._cluster.claim_thread()
                    with self._held_in_hand(len(wave)):
                        self._do_wave(wave, session, last=last)
            finally:
                free.put(session)

        waves: deque[Future[None]] = deque()
        with ThreadPoolExecutor(len(self._sessions), "pomona-wave") as threads:
            try:
                wave = self._next_wave(files)
                while wave and not self._finishing:
                    following = self._next_wave(files)
                    if not following:
                        self._total = self._plan.changes.to_do
                    waves.append(threads.submit(do, wave, last=not following))
                    if len(waves) == len(self._sessions):
                        waves.popleft().result()
                    wave = following
                while waves:
                    waves.popleft().result()
            except BaseException:
                self.stop_until_done(waves)
                raise

    @contextmanager
    def _held_in_hand(self, images: int) -> Iterator[None]:
        with self._lock:
            self._in_hand += images
        try:
            yield
        finally:
            with self._lock:
                self._in_hand -= images

    def _next_wave(self, files: Iterator[ImageFile]) -> list[ImageFile]:
        self._cores = self._cluster.cores()  # executors come and go
        wave = self._job.wave_files or _WAVE_FILES_PER_CORE * self._cores
        return list(islice(files, min(wave, self._cluster.largest_wave)))

    def _do_wave(self, wave: list[ImageFile], spark: SparkSession, *, last: bool) -> None:
        """Write the rows of some files in one commit, and then the rows that Spark left out."""
        readable = self._images.for_workers(wave)
        written = Written({}, [])
        while readable:
            try:
                written = self._append(readable, spark, last=last)
                break
            except Exception as error:
                if self._stopped:
                    raise
                good = self._unreadable.without_cause(readable, error)
                if len(good) == len(readable):
                    raise
                readable = good
        with self._lock:
            self.counts.update(written.statuses.values())
            self.failed_files += written.failed_files
        if self._finishing:
            return  # the workers may have left images out because of the stop file
        unseen = [file for file in readable if file.uri not in written.statuses]
        self._unreadable.check(unseen, len(readable))
        if left_out := [file for file in wave if file.uri not in written.statuses]:
            self._fallback.do(left_out)

    def _append(self, files: list[ImageFile], spark: SparkSession, *, last: bool) -> Written:
        """Write rows with Spark, a second time in isolation if an image ended its Python worker."""
        task = Task(
            self._encoder,
            self._job.label,
            self._job.decode,
            image_timeout_s=self._job.image_timeout_s,
            kept_of_files=self._job.kept,
            stop_file=None if (file := self._rows.stop_file()) is None else str(file),
            reader=self._images.reader,
        )
        try:
            return self._append_once(files, spark, task, last=last)
        except Exception as error:
            if self._stopped or not lost_a_worker(error):
                raise
            _log.warning(
                "a Python worker of Spark ended while computing %d images: computing them again, "
                "one at a time in a child process",
                len(files),
            )
        return self._append_once(files, spark, replace(task, isolated=True), last=last)

    def _append_once(
        self, files: list[ImageFile], spark: SparkSession, task: Task, *, last: bool
    ) -> Written:
        if task.reader is None:
            images = read_images(spark, files, self._cores, others_follow=not last)
        else:
            tasks = task_count(files, self._cores, others_follow=not last)
            images = share_files(spark, files, tasks)
        written = self._rows.append(
            lambda folder: self._cluster.rows(images, replace(task, folder=folder), len(files))
        )
        self._cluster.settle(Counter(written.statuses.values()))
        return written

    def model_loads(self) -> int:
        """Models loaded by this run, on executors and for the driver."""
        return self._cluster.model_loads() + self._fallback.model_loads

    def snapshot(self) -> Snapshot:
        """Return the counts so far. A task adds its own when it ends."""
        done = self._cluster.done() + self._fallback.done.copy()  # other threads add to it
        failed = done.total() - done["ok"]
        return Snapshot("extracting", done.total(), self._total, failed)


def _watch(run: _Run, progress: Progress) -> None:
    """Do the run in a thread, and show its progress.

    The main thread does not call py4j, so that a signal interrupts it at once.
    """
    # PySpark's own handler of Ctrl-C cancels all jobs before it raises KeyboardInterrupt.
    ctrl_c = signal_handlers({signal.SIGINT: signal.default_int_handler})
    with ctrl_c, ThreadPoolExecutor(1, "pomona") as thread:
        future = thread.submit(run.do)
        try:
            while not wait([future], timeout=_LOOK_EVERY_S).done:
                progress(run.snapshot())
        except BaseException as stop:  # Ctrl-C, SIGTERM, a notebook's stop button
            _finish(run, future, progress)
            note_kept(stop, run.counts.total(), run.table)
            raise
        progress(run.snapshot())
        future.result()


def _finish(run: _Run, future: Future[None], progress: Progress) -> None:
    """Wait for the running waves; a second Ctrl-C or SIGTERM cancels them."""
    try:
        _log.warning(run.finish())
        while not wait([future], timeout=_LOOK_EVERY_S).done:
            progress(run.snapshot())
    except BaseException as again:
        run.stop_until_done([future])
        note_kept(again, run.counts.total(), run.table)
        raise
    run.stop_until_done([future])
