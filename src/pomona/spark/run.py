"""The Spark engine: `binaryFile` and `mapInArrow`, running the embedded engine's own worker.

    listing -> waves of files -> binaryFile -> mapInArrow(worker) -> Parquet -> read back

The driver lists the files itself, because Spark drops empty ones in silence, and reads back which
paths a wave has written: what is missing gets its row on the driver, with its reason
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
from itertools import compress, islice
from queue import SimpleQueue
from typing import TYPE_CHECKING

from pomona.errors import RunError
from pomona.job.apply import files_to_compute
from pomona.job.dry_run import EarlyPlan
from pomona.job.job import Job
from pomona.job.plan import Plan
from pomona.job.summary import (
    STOPPING,
    Outcome,
    Progress,
    Snapshot,
    Summary,
    no_progress,
    note_kept,
    summarize,
)
from pomona.messages import count_of
from pomona.spark.binary_files import read_images
from pomona.spark.cluster.cluster import cluster_of
from pomona.spark.dataframe.featurize import Task
from pomona.spark.driver_fallback import DriverFallback
from pomona.spark.encoder_transport import encoder_handle
from pomona.spark.errors import (
    NAMES_IN_UTF8,
    lost_a_worker,
    names_a_forbidden_file,
    names_a_missing_path,
    spark_errors,
)
from pomona.spark.storage.parquet import Written

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from pomona.source.image_file import ImageFile
    from pomona.spark.storage.choose import ImageStore, TableStore
    from pomona.table.failed_files import FailedFile

__all__ = ["extract"]

_log = logging.getLogger(__name__)

_WAVE_FILES_PER_CORE = 20_000  # a wave is one commit: what a lost driver costs
_UNSEEN_FILES, _UNSEEN_SHARE = 100, 0.1  # files that Spark may leave out before it is asked why
_UNSEEN_SAMPLE = 16  # of them that the driver tries to open
_LOOK_EVERY_S = 0.3
_ASKING = 16  # threads that ask for files one by one: a store answers each in some 50 ms


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
        job: what to do.
        images: where the images are.
        rows: where the table is.
        spark: a session whose settings may be changed: `pomona.spark.session.session` gives one.
        progress: called about three times a second with how far the run is.
        early: a plan that was made before Spark started.

    Raises:
        SourceError, TableError: before anything is written.
        RunError: the run could not go on; rows written so far stay.
    """
    images.listing.check()
    table = job.paths.table
    with spark_errors(RunError, "Spark could not go on"):
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
        self._left_over = DriverFallback(job, images, rows)
        self._total: int | None = None
        self._in_hand = 0  # images of the waves that run
        self._finishing = False  # no more waves are begun
        self._stopped = False  # and those that run are cancelled
        self._only_ascii = False  # whether Spark's JVM finds no other names
        self._cores = 1
        self._carrier = encoder_handle(spark, job.encoder, job.encoder_location)
        self._cluster = cluster_of(spark)
        self._sessions = self._cluster.sessions()
        self._lock = threading.Lock()

    def do(self) -> None:
        """Write the rows that are missing, wave by wave."""
        try:
            with self._cluster.running():
                self._cluster.claim_thread()  # which asks what has a row, and removes rows
                self._do_waves()
                if not self._finishing:
                    self._rows.compact()
        finally:
            self.counts.update(self._left_over.done)
            self.failed_files += self._left_over.failed_files
            self._left_over.close()
            self._carrier.release()

    def finish(self) -> str:
        """Begin no more waves, and have those that run end and be committed.

        If the workers can see the stop file, these end after the images in hand.

        Returns:
            What the run waits for, in one line.
        """
        self._finishing = True
        self._left_over.stop()
        stop_file = self._rows.stop_file()
        if stop_file is not None:
            stop_file.touch()
        elif in_hand := self._in_hand:
            return (
                f"stopping after the waves that run, {count_of(in_hand, 'image')}: workers cannot "
                "be told to end sooner; a second Ctrl-C or SIGTERM cancels them, and their images "
                "are not kept"
            )
        return STOPPING

    def stop(self) -> None:
        """Begin nothing more, and end what runs."""
        self._finishing = self._stopped = True
        self._left_over.stop()
        self._cluster.cancel()

    def stop_until_done(self, futures: Collection[Future[None]]) -> None:
        """Stop, again and again: a job may have begun in between."""
        self.stop()
        while wait(futures, timeout=_LOOK_EVERY_S).not_done:
            self.stop()

    def _do_waves(self) -> None:
        """Do wave after wave, the next one beginning while the last tasks of one still run."""
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
        """Write the rows of some files in one commit, and then those that Spark left out."""
        readable = self._can_be_named(self._images.present(wave))
        written = Written({}, [])
        while readable:
            try:
                written = self._append(readable, spark, last=last)
                break
            except Exception as error:
                good = None if self._stopped else self._without_cause(readable, error)
                if good is None or len(good) == len(readable):
                    raise
                readable = good
        with self._lock:
            self.counts.update(written.statuses.values())
            self.failed_files += written.failed_files
        if self._finishing:
            return  # the workers may have left images out because they were told to
        unseen = [file for file in readable if file.uri not in written.statuses]
        self._check_unseen(unseen, len(readable))
        if left_out := [file for file in wave if file.uri not in written.statuses]:
            self._left_over.do(left_out)

    def _without_cause(self, files: list[ImageFile], error: Exception) -> list[ImageFile] | None:
        """Files without those over which Spark gave up; None where it was for another reason."""
        if names_a_missing_path(error):
            is_good = self._images.exists
        elif names_a_forbidden_file(error):
            is_good = self._images.can_be_opened
        else:
            return None
        with ThreadPoolExecutor(_ASKING) as threads:
            good = list(compress(files, threads.map(is_good, files)))
        if len(good) == len(files) and names_a_missing_path(error):
            self._only_ascii = True
            good = self._can_be_named(files)
        return good

    def _can_be_named(self, files: list[ImageFile]) -> list[ImageFile]:
        """Files whose names Spark's JVM can turn into those of this machine.

        Raises:
            RunError: the others are too many to be left to the driver.
        """
        if not self._only_ascii:
            return files
        named = [file for file in files if file.path.isascii()]
        if _are_many(len(files) - len(named), len(files)):
            raise RunError(
                f"Spark does not find {len(files) - len(named)} of {len(files)} files that are "
                f"there: {NAMES_IN_UTF8}"
            )
        return named

    def _check_unseen(self, unseen: list[ImageFile], readable: int) -> None:
        """Find out whether files that Spark left out are bad, or merely out of its sight."""
        if not _are_many(len(unseen), readable):
            return
        sample = unseen[:: -(-len(unseen) // _UNSEEN_SAMPLE)]
        if any(map(self._images.can_be_opened, sample)):
            else_try = "" if any(file.path.isascii() for file in unseen) else f" Or {NAMES_IN_UTF8}"
            raise RunError(
                f"Spark's workers could not read {len(unseen)} of {readable} files that the driver "
                f"can read: is `source` on storage that all machines share?{else_try}"
            )

    def _append(self, files: list[ImageFile], spark: SparkSession, *, last: bool) -> Written:
        """Have Spark write rows; again, image by image, where one has ended its Python worker."""
        task = Task(
            self._carrier,
            self._job.label,
            self._job.decode,
            image_timeout_s=self._job.image_timeout_s,
            stop_file=None if (file := self._rows.stop_file()) is None else str(file),
        )
        try:
            return self._append_once(files, spark, task, last=last)
        except Exception as error:
            if self._stopped or not lost_a_worker(error):
                raise
            _log.warning(
                "a Python worker of Spark ended within %d images, which are done again, each "
                "apart from the others",
                len(files),
            )
        return self._append_once(files, spark, replace(task, isolated=True), last=last)

    def _append_once(
        self, files: list[ImageFile], spark: SparkSession, task: Task, *, last: bool
    ) -> Written:
        images = read_images(spark, files, self._cores, others_follow=not last)
        written = self._rows.append(self._cluster.rows(images, task, len(files)))
        self._cluster.settle(Counter(written.statuses.values()))
        return written

    def model_loads(self) -> int:
        """Models loaded by this run, on executors and for the driver."""
        return self._cluster.model_loads() + self._left_over.model_loads

    def snapshot(self) -> Snapshot:
        """How far the run is: tasks tell when they end."""
        done = self._cluster.done() + self._left_over.done.copy()  # other threads add to it
        return Snapshot(done.total(), done.total() - done["ok"], self._total)


def _are_many(left_out: int, files: int) -> bool:
    """Whether Spark leaves out so many files that it is no matter of theirs."""
    return left_out > max(_UNSEEN_FILES, _UNSEEN_SHARE * files)


def _watch(run: _Run, progress: Progress) -> None:
    """Do the run in a thread and show how far it is.

    The main thread stays out of py4j, so that a signal finds it free.
    """
    with _own_ctrl_c(), ThreadPoolExecutor(1, "pomona") as thread:
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


@contextmanager
def _own_ctrl_c() -> Iterator[None]:
    """Have Ctrl-C raise KeyboardInterrupt only: PySpark's handler cancels all jobs before that."""
    if threading.current_thread() is not threading.main_thread():
        yield  # to which no signal comes
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)


def _finish(run: _Run, future: Future[None], progress: Progress) -> None:
    """Have what is in hand done; a second Ctrl-C or SIGTERM cancels what runs."""
    try:
        _log.warning(run.finish())
        while not wait([future], timeout=_LOOK_EVERY_S).done:
            progress(run.snapshot())
    except BaseException as again:
        run.stop_until_done([future])
        note_kept(again, run.counts.total(), run.table)
        raise
    run.stop_until_done([future])
