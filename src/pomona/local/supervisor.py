"""The threads of a run that each supervise one worker process."""

from __future__ import annotations

import time

from pomona.local.run_state import RunState
from pomona.processes.crash_policy import canary_image
from pomona.processes.worker_client import State, WorkerDied, WorkerProcess
from pomona.source.image_file import ImageFile

__all__ = ["Supervisor"]

_PART_BYTES = 64 * 2**20  # a part file is closed when its vectors take this much...
_PART_SECONDS = 60.0  # ...or when it is this old, which limits the work lost by a kill


class Supervisor:
    """Keeps one worker process at work, in a thread of the run."""

    def __init__(self, run: RunState, number: int) -> None:
        self._run = run
        self._number = number
        self._process: WorkerProcess | None = None
        self._in_hand: list[ImageFile] = []  # the chunk that the process works on
        self._open: list[ImageFile] = []  # images whose rows are in the open part file
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
                    self._on_death(death)
            if self._finishing and not self._stopped:
                self._close_part()
            self._keep_warm()
        finally:
            self._drop_process()

    def finish(self) -> None:
        """Let the images in progress finish and start no others; for another thread."""
        self._finishing = True
        if process := self._process:
            process.finish()
            if not self._is_ready:  # it has no row yet: do not wait for its encoder
                process.kill("the run was stopped")

    def stop(self, reason: str) -> None:
        """Kill the process; for another thread."""
        self._stopped = True
        if process := self._process:
            process.kill(reason)

    def look(self, timeout_s: float) -> None:
        """Kill the process if one image takes too long; for another thread."""
        process = self._process
        if process is None:
            return
        state, now = process.progress(), time.monotonic()
        if state != self._seen[0] or state.read == state.done:
            self._seen = (state, now)
        elif now - self._seen[1] > timeout_s:
            process.kill(f"one image took longer than {timeout_s:g} s")

    def uncommitted(self) -> tuple[int, int]:
        """Return the numbers of rows and of failed rows that are done but not yet in the table."""
        process = self._process
        state = process.progress() if process else State(0, 0, 0)
        return len(self._open) + state.done, self._open_failed + state.failed

    def _do(self, chunk: list[ImageFile]) -> None:
        """Let the process compute a chunk; close the part file if it is large or old enough."""
        self._in_hand = (
            chunk  # before the process starts on it: nothing is lost if the process dies
        )
        process = self._process or self._start()
        suspect = self._run.has_suspect(chunk)
        if suspect or not chunk:
            self._close_part()  # so that a suspect cannot destroy other rows
        if not self._open:
            self._opened_at = time.monotonic()
        if chunk:
            state = process.run(chunk)
            self._run.did_images()
            self._open, self._in_hand = self._open + chunk[: state.done], []
            self._open_failed = state.failed
            old = time.monotonic() - self._opened_at > _PART_SECONDS
            if suspect or old or state.vector_bytes >= _PART_BYTES:
                self._close_part()

    def _start(self) -> WorkerProcess:
        self._is_ready = False
        warm = self._run.warm.pop() if self._run.warm else None
        self._process = process = warm or WorkerProcess(self._run.setup)
        if self._finishing or self._stopped:  # while the process was being created
            process.kill("the run was stopped")
        if warm:
            process.renew(self._run.setup)
        self._run.loaded(0 if warm else process.wait_until_ready())
        self._is_ready = True
        if self._finishing:  # while the encoder was being loaded
            process.finish()
        return process

    def _close_part(self) -> None:
        if self._open and self._process:
            part = self._process.close_part()
            self._open, self._open_failed = [], 0
            self._run.commit(part)

    def _keep_warm(self) -> None:
        """Leave the process to the next run if it has no rows in hand and there is such a run."""
        is_idle = not (self._open or self._finishing or self._stopped)
        if self._run.warm is not None and self._process and is_idle:
            self._run.warm.append(self._process)
            self._process = None

    def _drop_process(self) -> None:
        if self._process:
            self._process.close()
        self._process = None

    def _on_death(self, death: WorkerDied) -> None:
        self._drop_process()
        held, suspects = self._open + self._in_hand, []
        if death.at and self._in_hand:
            suspects = [self._in_hand[at] for at in death.at]
            if death.at[0]:
                self._run.did_images()
        self._open, self._in_hand, self._open_failed = [], [], 0
        needs_canary = self._run.worker_died(held, suspects, death.reason)
        if needs_canary and not self._stopped:
            self._do_canary()

    def _do_canary(self) -> None:
        """Check with a known image whether images are the cause of the ends.

        Raises:
            RunError: images are not the cause.
        """
        path = self._run.setup.staging / f"canary-{self._number}.jpg"
        path.write_bytes(canary_image())
        while not (self._stopped or self._finishing):
            try:
                process = self._start()
            except WorkerDied as death:
                self._drop_process()
                self._run.worker_died([], [], death.reason)
                continue
            try:
                process.run([ImageFile(str(path), None, None)])
                process.close_part().path.unlink()
            except WorkerDied as death:
                raise self._run.crashes.ended_over_canary(death.reason) from None
            self._run.did_images()
            return
