"""The embedded engine: worker processes on this machine, no JVM.

    source -> queue -> thread + worker process, one for each core -> part file -> table

Each thread looks after one process: it hands it chunks of images, has its part file closed when
that is large or old enough, and renames it into the table. The threads only wait, so that the cores
belong to the workers. What a killed process had not closed is done again by another; an image that
kills its process twice gets the row `crashed`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import chain

from pomona.cores import available_cores
from pomona.encoder.encoder import Encoder
from pomona.errors import RunError
from pomona.job.dry_run import rehearse
from pomona.job.job import (
    STOPPING,
    Job,
    Outcome,
    Progress,
    Snapshot,
    Summary,
    local_listing,
    no_progress,
    note_kept,
    summarize,
)
from pomona.job.plan import Worklist
from pomona.local.image_queue import CHUNK, ImageQueue
from pomona.processes.isolated_client import (
    ENDS_IN_A_ROW,
    STRIKES,
    canary_image,
    no_image_is_to_blame,
)
from pomona.processes.worker_client import Part, Setup, State, WorkerDied, WorkerProcess
from pomona.runtime.registry import computes_on_gpu
from pomona.schema import failure_row
from pomona.source.image_file import ImageFile
from pomona.table.failed_files import FailedFile, failed_in
from pomona.table.feature_table import FeatureTable
from pomona.table.label_record import keep_label_rule
from pomona.table.writer import TableWriter, writing

__all__ = ["extract"]

_log = logging.getLogger(__name__)

_PART_BYTES = 64 * 2**20  # a part file is closed when its vectors take this much...
_PART_SECONDS = 60.0  # ...or when it is this old: what a kill can cost
_STARTS_IN_A_ROW = 4  # times that each worker may end before its first image
_LOOK_EVERY_S = 0.1
_CORES_FOR_A_GPU = (
    4  # for each process: its threads share Python's lock, processes the GPU's memory
)
_CHUNK_FOR_A_GPU = 1024  # images: so that few batches are cut short by the end of a chunk


def extract(job: Job, workers: int | None = None, progress: Progress = no_progress) -> Summary:
    """Run a job in worker processes on this machine.

    Args:
        job: what to do.
        workers: number of processes; by default one for each core, or for each
            four of them where the encoder is computed on a GPU, which have threads to decode.
        progress: told about ten times a second how far the run is.

    Raises:
        SourceError, TableError: before anything is written.
        RunError: the run could not go on; the rows written so far stay.
    """
    if job.dry_run:
        return rehearse(job)
    table = FeatureTable.at(job.paths.table)
    listing = local_listing(job.paths)
    listing.check()
    worklist = job.worklist(listing)
    with writing(table, job.provenance(), overwrite=job.overwrite) as writer:
        if job.label_rule:
            keep_label_rule(table.folder, job.label_rule)
        run = _Run(job, writer, worklist, workers or _workers_for(job.encoder))
        run.go(progress)
        writer.compact()
    outcome = Outcome(run.counts, run.failed_files, run.model_loads)
    return summarize(job, str(table.folder), worklist, outcome)


def _workers_for(encoder: Encoder) -> int:
    cores = available_cores()
    return max(1, cores // _CORES_FOR_A_GPU) if computes_on_gpu(encoder) else cores


class _Thread(threading.Thread):
    """A thread of a run. It is waited for by its event, never joined.

    Before Python 3.13, a thread counts as ended if a signal interrupts its `join`.
    """

    def __init__(self, task: Callable[[], None]) -> None:
        super().__init__()
        self.ended = threading.Event()
        self._task = task

    def run(self) -> None:
        """Do the task."""
        try:
            self._task()
        finally:
            self.ended.set()


class _Run:
    """One run: the state that its threads share."""

    def __init__(self, job: Job, writer: TableWriter, worklist: Worklist, workers: int) -> None:
        self.job = job
        on_gpu = computes_on_gpu(job.encoder)
        self.queue = ImageQueue(workers, _CHUNK_FOR_A_GPU if on_gpu else CHUNK)
        self.counts: Counter[str] = Counter()  # rows in the table by this run, by status
        self.failed_files: list[FailedFile] = []  # the first few of each part file
        self.model_loads = 0
        self._writer = writer
        self._worklist = worklist
        self._crashed: list[tuple[ImageFile, str]] = []  # states that have no row yet
        self._strikes: Counter[str] = Counter()
        self._workers = workers
        self._ends_in_a_row = 0  # of processes with an image in hand
        self._starts_in_a_row = 0  # that added no row to the table, through no image's fault
        self._failure: BaseException | None = None
        self._tried = threading.Event()  # a process could load the encoder, or the run has ended
        self._lock = threading.Lock()
        encoder_path = writer.staging / "encoder"
        job.encoder.save(encoder_path)
        threads = max(1, available_cores() // workers)
        self.setup = Setup(encoder_path, writer.staging, job.label, job.decode, threads)
        self._keepers = [_Supervisor(self, number) for number in range(workers)]

    def go(self, progress: Progress) -> None:
        """Do everything."""
        tasks = [keeper.keep for keeper in self._keepers]
        tasks.append(lambda: self.queue.fill(self._worklist.files(self._writer, self._try)))
        threads = [_Thread(partial(self._guard, task)) for task in tasks]
        try:
            self._go(threads, progress)
        except BaseException as stop:
            note_kept(stop, self.counts.total(), self.job.paths.table)
            raise
        if self._failure:
            raise self._failure
        self._write_crashed()

    def _guard(self, task: Callable[[], None]) -> None:
        """Run a thread's task; what it raises ends the run, and the main thread raises it."""
        try:
            task()
        except BaseException as error:  # noqa: BLE001 - handed to the main thread, not dropped
            self._failure = self._failure or error
            self._stop()

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
            self._stop()
            for keeper in self._keepers:
                keeper.stop("the run was stopped")
            for thread in threads:
                if thread.ident is not None:  # else it never began
                    thread.ended.wait()

    def _finish(self, threads: list[_Thread], progress: Progress) -> None:
        """Have the images in hand done and the open part files committed. Waits for that.

        A second Ctrl-C or SIGTERM is raised from here, and then the processes are ended.
        """
        self._stop()
        for keeper in self._keepers:
            keeper.finish()
        self._watch([thread for thread in threads if thread.ident is not None], progress)

    def _stop(self) -> None:
        self.queue.stop()
        self._tried.set()

    def _try(self) -> None:
        """Wait until a worker process has found that the encoder works on this machine."""
        self.queue.wake()
        self._tried.wait()
        if self.model_loads == 0:
            raise RunError("the run was stopped before rows were removed")

    def _watch(self, threads: list[_Thread], progress: Progress) -> None:
        """Show how far the run is and end processes that hang, until the threads are done."""
        while self._failure is None and (running := [t for t in threads if not t.ended.is_set()]):
            for keeper in self._keepers:
                keeper.look(self.job.image_timeout_s)
            progress(self._snapshot())
            running[0].ended.wait(_LOOK_EVERY_S)
        progress(self._snapshot())

    def _snapshot(self) -> Snapshot:
        done, failed = self.counts.total(), self.counts.total() - self.counts["ok"]
        for keeper in self._keepers:
            more_done, more_failed = keeper.uncommitted()
            done, failed = done + more_done, failed + more_failed
        return Snapshot(done, failed, self.queue.total)

    def loaded(self, models: int) -> None:
        """Count models that a new process loaded."""
        with self._lock:
            self.model_loads += models
        self._tried.set()

    def commit(self, part: Part) -> None:
        """Take a whole part file into the table."""
        self._writer.commit(part.path)
        with self._lock:
            self._starts_in_a_row = 0
            self.counts.update(part.by_status)
            self.failed_files += part.failed_files
            self._write_crashed()
        self.queue.settle(part.rows)

    def healthy(self) -> None:
        """Take note that a process got images done."""
        with self._lock:
            self._ends_in_a_row = 0

    def on_worker_death(
        self, files: list[ImageFile], suspects: list[ImageFile], death: WorkerDied
    ) -> int | None:
        """Decide what becomes of the images that a dead process held.

        Returns:
            How many processes in a row have ended over an image with nothing done, where that is
            so many that images may not be the cause: the next process must do a known one first.

        Raises:
            RunError: processes keep ending before they have an image.
        """
        with self._lock:
            if not suspects:
                self._starts_in_a_row += 1
                if not self.model_loads:
                    self.queue.wake()  # whoever was roused may be this one
                if self._starts_in_a_row >= max(ENDS_IN_A_ROW, _STARTS_IN_A_ROW * self._workers):
                    raise RunError(
                        f"{self._starts_in_a_row} worker processes in a row ended with nothing "
                        f"done, the last one because {death.reason}"
                    )
            else:
                self._ends_in_a_row += 1
                self._strikes.update(suspect.path for suspect in suspects)
                if self._strikes[suspects[0].path] >= STRIKES:  # then it came alone
                    (suspect,) = suspects
                    _log.warning("%s crashed: %s", suspect.path, death.reason)
                    self._crashed.append((suspect, death.reason))
                    files = [file for file in files if file is not suspect]
                    self.queue.settle(1)
            ends = self._ends_in_a_row
        self.queue.give_back(files, suspects)
        return ends if ends >= ENDS_IN_A_ROW else None

    def has_suspect(self, chunk: list[ImageFile]) -> bool:
        """Whether a process has died on an image of a chunk; it comes alone then."""
        return len(chunk) == 1 and self._strikes[chunk[0].path] > 0

    def _write_crashed(self) -> None:
        """Give the images that ended their processes their rows.

        Called when something else has succeeded: were it not the images' fault, nothing would.
        """
        if not self._crashed:
            return
        rows = [
            failure_row(
                path=file.uri,
                label=self.job.label(file.uri),
                size=file.size,
                modified_ms=file.modified,
                status="crashed",
                error=reason,
            )
            for file, reason in self._crashed
        ]
        self._writer.append_batches(rows, self.job.provenance())
        self.failed_files += chain.from_iterable(map(failed_in, rows))
        self.counts["crashed"] += len(self._crashed)
        self._crashed.clear()


class _Supervisor:
    """A thread's part of the run: it keeps one worker process at work."""

    def __init__(self, run: _Run, number: int) -> None:
        self._run = run
        self._number = number
        self._process: WorkerProcess | None = None
        self._in_hand: list[ImageFile] = []  # the chunk that the process works on
        self._open: list[ImageFile] = []  # images whose rows are in the part file still open
        self._open_failed = 0
        self._opened_at = 0.0
        self._seen = (State(0, 0, 0), 0.0)
        self._is_ready = False  # whether the process has loaded the encoder
        self._finishing = False
        self._stopped = False

    def keep(self) -> None:
        """Work until no image is left."""
        try:
            while (chunk := self._run.queue.take(holds_work=bool(self._open))) is not None:
                try:
                    self._do(chunk)
                except WorkerDied as death:
                    self._bury(death)
            if self._finishing and not self._stopped:
                self._close_part()
        finally:
            if self._process:
                self._process.close()

    def finish(self) -> None:
        """Have the images in hand done and no others, from another thread."""
        self._finishing = True
        if process := self._process:
            process.finish()
            if not self._is_ready:  # it has no row yet: nobody waits for its encoder
                process.kill("the run was stopped")

    def stop(self, reason: str) -> None:
        """End the process, from another thread."""
        self._stopped = True
        if process := self._process:
            process.kill(reason)

    def look(self, timeout_s: float) -> None:
        """End the process, from another thread, if it has been on one image for too long."""
        process = self._process
        if process is None:
            return
        state, now = process.progress(), time.monotonic()
        if state != self._seen[0] or state.read == state.done:
            self._seen = (state, now)
        elif now - self._seen[1] > timeout_s:
            process.kill(f"one image took longer than {timeout_s:g} s")

    def uncommitted(self) -> tuple[int, int]:
        """Rows, and failed ones among them, that are done and not yet in the table."""
        process = self._process
        state = process.progress() if process else State(0, 0, 0)
        return len(self._open) + state.done, self._open_failed + state.failed

    def _do(self, chunk: list[ImageFile]) -> None:
        """Have a chunk done, and the part file closed where it is time for that."""
        self._in_hand = chunk  # from here on: whenever the process dies, nothing of it is lost
        process = self._process or self._start()
        suspect = self._run.has_suspect(chunk)
        if suspect or not chunk:
            self._close_part()  # a suspect must not take the others' rows with it
        if not self._open:
            self._opened_at = time.monotonic()
        if chunk:
            state = process.run(chunk)
            self._run.healthy()
            self._open, self._in_hand = self._open + chunk[: state.done], []
            self._open_failed = state.failed
            old = time.monotonic() - self._opened_at > _PART_SECONDS
            if suspect or old or state.vector_bytes >= _PART_BYTES:
                self._close_part()

    def _start(self) -> WorkerProcess:
        self._is_ready = False
        self._process = process = WorkerProcess(self._run.setup)
        if self._finishing or self._stopped:  # while the process was being created
            process.kill("the run was stopped")
        self._run.loaded(process.wait_until_ready())
        self._is_ready = True
        if self._finishing:  # while the encoder was being loaded
            process.finish()
        return process

    def _close_part(self) -> None:
        if self._open and self._process:
            part = self._process.close_part()
            self._open, self._open_failed = [], 0
            self._run.commit(part)

    def _bury(self, death: WorkerDied) -> None:
        if self._process:
            self._process.close()
        held, suspects = self._open + self._in_hand, []
        if death.at and self._in_hand:
            suspects = [self._in_hand[at] for at in death.at]
            if death.at[0]:
                self._run.healthy()
        self._process, self._open, self._in_hand, self._open_failed = None, [], [], 0
        ends = self._run.on_worker_death(held, suspects, death)
        if ends and not self._stopped:
            self._try_known_image(ends)

    def _try_known_image(self, ends: int) -> None:
        """Find out whether all these ends were their images' fault.

        Raises:
            RunError: they were not.
        """
        path = self._run.setup.staging / f"known-{self._number}.jpg"
        path.write_bytes(canary_image())
        try:
            process = self._start()
            process.run([ImageFile(str(path), None, None)])
            process.close_part().path.unlink()
        except WorkerDied as death:
            raise RunError(no_image_is_to_blame(ends, death.reason)) from None
        self._run.healthy()
