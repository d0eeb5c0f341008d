"""The shared state of a run's threads: queue, counts, the open table and the crash policy."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import chain

from pomona.cores import available_cores
from pomona.errors import RunError
from pomona.job.apply import files_to_compute
from pomona.job.job import Job
from pomona.job.plan import Plan
from pomona.job.summary import Outcome
from pomona.local.image_queue import ImageQueue
from pomona.processes.crash_policy import ENDS_IN_A_ROW, CrashPolicy
from pomona.processes.worker_client import Part, Setup, WorkerProcess
from pomona.runtime.registry import computes_on_gpu
from pomona.schema import failure_row
from pomona.source.image_file import ImageFile
from pomona.source.images import Reader
from pomona.source.kept import with_kept
from pomona.source.list_reader import ListReader
from pomona.table.failed_files import FailedFile, failed_in
from pomona.table.writer import TableWriter

__all__ = ["RunState"]

_log = logging.getLogger(__name__)

_STARTS_IN_A_ROW = 4  # number of times that each worker may end without an image in progress
_CHUNK_OF_BATCHES = 1024  # images: so that few batches are incomplete at the end of a chunk


class RunState:
    """The state of a run that its threads share.

    Attributes:
        queue: the images to compute.
        counts: number of rows that this run has in the table, by status.
        failed_files: the first few failed files of each part file.
        model_loads: how often the network was loaded.
        crashes: decides the cause if a process ends; used under this object's lock.
        setup: the settings of a worker process.
        workers: number of processes.
        warm: processes of an earlier run that have loaded the encoder, or None if they end with
            their run.
        looked_s: seconds of listing the source and comparing it with the table.
    """

    def __init__(
        self,
        job: Job,
        reader: Reader,
        writer: TableWriter,
        workers: int,
        warm: list[WorkerProcess] | None = None,
    ) -> None:
        if isinstance(reader, ListReader):
            reader = reader.shared_by(workers)
        chunk = reader.images_at_once
        if computes_on_gpu(job.encoder) or job.encoder.endpoint is not None:
            chunk = max(chunk, _CHUNK_OF_BATCHES)
        self.queue = ImageQueue(workers, chunk)
        self.counts: Counter[str] = Counter()
        self.failed_files: list[FailedFile] = []
        self.model_loads = 0
        self.crashes = CrashPolicy(max(ENDS_IN_A_ROW, _STARTS_IN_A_ROW * workers))
        self.workers = workers
        self.warm = warm
        self.looked_s = 0.0
        self._job = job
        self._writer = writer
        self._crashed: list[tuple[ImageFile, str]] = []  # images without a row yet
        self._tried = threading.Event()  # a process could load the encoder, or the run has ended
        self._is_loaded = False  # whether a process could load the encoder
        self._lock = threading.Lock()
        encoder_path = writer.staging / "encoder"
        if not encoder_path.exists():
            job.encoder.for_images().save(encoder_path)
        threads = max(1, available_cores() // workers)
        self.setup = Setup(
            encoder_path,
            writer.staging,
            reader,
            job.label,
            job.decode,
            threads,
            job.kept,
            job.encoder.endpoint,
        )

    def carry_out(self, plan: Plan) -> None:
        """Carry out the steps of a plan; the files to compute fill the queue."""
        self.queue.fill(self._timed(files_to_compute(plan, self._writer, self._wait_for_encoder)))

    def _timed(self, files: Iterator[ImageFile]) -> Iterator[ImageFile]:
        """Yield the files, and measure how long finding them takes."""
        while True:
            started = time.monotonic()
            file = next(files, None)
            self.looked_s += time.monotonic() - started
            if file is None:
                return
            yield file

    def stop(self) -> None:
        """Hand out no more images, and wake threads that wait for an encoder."""
        self.queue.stop()
        self._tried.set()

    def _wait_for_encoder(self) -> None:
        """Wait until a worker process has loaded the encoder on this machine."""
        self.queue.wake()
        self._tried.wait()
        if not self._is_loaded:
            raise RunError("the run was stopped before rows were deleted")

    def loaded(self, models: int) -> None:
        """Count models that a new process loaded."""
        with self._lock:
            self.model_loads += models
            self._is_loaded = True
        self._tried.set()

    def commit(self, part: Part) -> None:
        """Move a complete part file into the table."""
        self._writer.commit(part.path)
        with self._lock:
            self.crashes.kept()
            self.counts.update(part.by_status)
            self.failed_files += part.failed_files
            self._write_crashed()
        self.queue.settle(part.rows)

    def finish(self) -> None:
        """Write the remaining rows after the last part file."""
        with self._lock:
            self._write_crashed()

    def outcome(self) -> Outcome:
        """Return the rows that the run has written so far."""
        return Outcome(self.counts, self.failed_files, self.model_loads)

    def did_images(self) -> None:
        """Note that a process has computed images."""
        with self._lock:
            self.crashes.done()

    def worker_died(self, files: list[ImageFile], suspects: list[ImageFile], reason: str) -> bool:
        """Decide what happens to the images of a dead process.

        Args:
            files: the images whose rows are lost.
            suspects: the images among them that were in progress.
            reason: how it ended.

        Returns:
            Whether the next process must compute the canary first.

        Raises:
            RunError: too many processes in a row ended without an image in progress.
        """
        with self._lock:
            if not suspects:
                if not self._is_loaded:
                    self.queue.wake()  # the caller that was woken may be this one
                self.crashes.ended_over_no_image(reason)
            elif self.crashes.ended_over([suspect.path for suspect in suspects]):
                (suspect,) = suspects
                _log.warning("%s crashed: %s", suspect.path, reason)
                self._crashed.append((suspect, reason))
                files = [file for file in files if file is not suspect]
                self.queue.settle(1)
            needs_canary = self.crashes.needs_canary
            suspects = [file for file in files if self.crashes.is_suspect(file.path)]
        self.queue.give_back(files, suspects)
        return needs_canary

    def has_suspect(self, chunk: list[ImageFile]) -> bool:
        """Return whether a process has ended over an image of a chunk; that image is then alone."""
        return len(chunk) == 1 and self.crashes.is_suspect(chunk[0].path)

    def _write_crashed(self) -> None:
        """Write the rows of images that ended their processes.

        This is called after another image was computed: it shows that the images are the cause.
        """
        if not self._crashed:
            return
        rows = [
            with_kept(
                failure_row(
                    path=file.uri,
                    label=self._job.label(file.uri),
                    size=file.size,
                    modified_ms=file.modified,
                    status="crashed",
                    error=reason,
                ),
                [file],
                self._job.kept,
            )
            for file, reason in self._crashed
        ]
        self._writer.append_batches(rows, self._job.provenance())
        self.failed_files += chain.from_iterable(map(failed_in, rows))
        self.counts["crashed"] += len(self._crashed)
        self._crashed.clear()
