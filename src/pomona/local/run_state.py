"""What the threads of a run share: the queue, the counts, the open table and the crash policy."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from itertools import chain

from pomona.cores import available_cores
from pomona.errors import RunError
from pomona.job.apply import files_to_compute
from pomona.job.job import Job
from pomona.job.plan import Plan
from pomona.local.image_queue import CHUNK, ImageQueue
from pomona.processes.crash_policy import ENDS_IN_A_ROW, CrashPolicy
from pomona.processes.worker_client import Part, Setup
from pomona.runtime.registry import computes_on_gpu
from pomona.schema import failure_row
from pomona.source.image_file import ImageFile
from pomona.table.failed_files import FailedFile, failed_in
from pomona.table.writer import TableWriter

__all__ = ["RunState"]

_log = logging.getLogger(__name__)

_STARTS_IN_A_ROW = 4  # times that each worker may end over no image
_CHUNK_FOR_A_GPU = 1024  # images: so that few batches are cut short by the end of a chunk


class RunState:
    """One run, as its threads see it.

    Attributes:
        queue: the images to do.
        counts: rows that this run has in the table, by status.
        failed_files: the first few of each part file.
        model_loads: how often the network was loaded.
        crashes: whose fault it is if a process ends; used under this object's lock.
        setup: what a worker process needs to start.
    """

    def __init__(self, job: Job, writer: TableWriter, workers: int) -> None:
        chunk = _CHUNK_FOR_A_GPU if computes_on_gpu(job.encoder) else CHUNK
        self.queue = ImageQueue(workers, chunk)
        self.counts: Counter[str] = Counter()
        self.failed_files: list[FailedFile] = []
        self.model_loads = 0
        self.crashes = CrashPolicy(max(ENDS_IN_A_ROW, _STARTS_IN_A_ROW * workers))
        self._job = job
        self._writer = writer
        self._crashed: list[tuple[ImageFile, str]] = []  # they have no row yet
        self._tried = threading.Event()  # a process could load the encoder, or the run has ended
        self._lock = threading.Lock()
        encoder_path = writer.staging / "encoder"
        job.encoder.save(encoder_path)
        threads = max(1, available_cores() // workers)
        self.setup = Setup(encoder_path, writer.staging, job.label, job.decode, threads)

    def carry_out(self, plan: Plan) -> None:
        """Do the steps of a plan; the files to compute fill the queue."""
        self.queue.fill(files_to_compute(plan, self._writer, self._wait_for_encoder))

    def stop(self) -> None:
        """Hand out no more images, and let nobody wait for an encoder."""
        self.queue.stop()
        self._tried.set()

    def _wait_for_encoder(self) -> None:
        """Wait until a worker process has found that the encoder works on this machine."""
        self.queue.wake()
        self._tried.wait()
        if self.model_loads == 0:
            raise RunError("the run was stopped before rows were removed")

    def loaded(self, models: int) -> None:
        """Count models that a new process loaded."""
        with self._lock:
            self.model_loads += models
        self._tried.set()

    def commit(self, part: Part) -> None:
        """Take a whole part file into the table."""
        self._writer.commit(part.path)
        with self._lock:
            self.crashes.kept()
            self.counts.update(part.by_status)
            self.failed_files += part.failed_files
            self._write_crashed()
        self.queue.settle(part.rows)

    def finish(self) -> None:
        """Write the rows that are left after the last part file."""
        with self._lock:
            self._write_crashed()

    def did_images(self) -> None:
        """Take note that a process got images done."""
        with self._lock:
            self.crashes.done()

    def worker_died(self, files: list[ImageFile], suspects: list[ImageFile], reason: str) -> bool:
        """Decide what becomes of the images that a dead process held.

        Args:
            files: the images whose rows are lost.
            suspects: those of them that the process had in hand.
            reason: how it ended.

        Returns:
            Whether the next process must do the canary first.

        Raises:
            RunError: processes keep ending over no image.
        """
        with self._lock:
            if not suspects:
                if not self.model_loads:
                    self.queue.wake()  # the one that was woken may be this one
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
        """Whether a process has ended over an image of a chunk; it comes alone then."""
        return len(chunk) == 1 and self.crashes.is_suspect(chunk[0].path)

    def _write_crashed(self) -> None:
        """Give the images that ended their processes their rows.

        Called when something else has succeeded: were it not the images' fault, nothing would.
        """
        if not self._crashed:
            return
        rows = [
            failure_row(
                path=file.uri,
                label=self._job.label(file.uri),
                size=file.size,
                modified_ms=file.modified,
                status="crashed",
                error=reason,
            )
            for file, reason in self._crashed
        ]
        self._writer.append_batches(rows, self._job.provenance())
        self.failed_files += chain.from_iterable(map(failed_in, rows))
        self.counts["crashed"] += len(self._crashed)
        self._crashed.clear()
