"""One worker process of the embedded engine: the parent's side.

The child writes its progress to a small shared memory, the scoreboard: this costs it no time, and
the scoreboard still exists after the child has died. `worker_main` is the child's side.
"""

from __future__ import annotations

import mmap
import struct
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pomona.encoder.endpoint import Endpoint
from pomona.processes.child import ChildProcess, Ended
from pomona.source.image_file import ImageFile
from pomona.source.images import Reader
from pomona.source.kept import NOTHING
from pomona.source.labels import LabelRule
from pomona.table.failed_files import FailedFile
from pomona.worker.prepare import DecodeOptions

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["OpenPart", "Part", "Scoreboard", "Setup", "State", "WorkerDied", "WorkerProcess"]


@dataclass(frozen=True, slots=True)
class Setup:
    """The settings of a worker process, sent once for each run.

    Attributes:
        encoder: the file of the encoder.
        staging: the folder for part files.
        reader: reads the images.
        label: returns the label of an image.
        decode: how images become pixels.
        threads: number of threads that decode, if the encoder computes several images at once.
        kept: columns of the source that the rows have after those of every table.
        endpoint: the model server that computes the encoder, if any.
    """

    encoder: Path
    staging: Path
    reader: Reader
    label: LabelRule
    decode: DecodeOptions
    threads: int = 1
    kept: pa.Schema = NOTHING
    endpoint: Endpoint | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A complete part file in the staging folder.

    Attributes:
        path: path of the file.
        rows: number of rows.
        by_status: number of rows by status.
        failed_files: the first few rows without a vector.
    """

    path: Path
    rows: int
    by_status: Counter[str]
    failed_files: list[FailedFile]


class WorkerDied(Exception):  # noqa: N818 - it is news to its parent, not an error to a user
    """The process ended without a reply.

    Attributes:
        at: indices in the chunk of the images in progress, in order; usually one or none.
        reason: how it ended, in one line.
    """

    def __init__(self, at: list[int], reason: str) -> None:
        super().__init__(reason)
        self.at = at
        self.reason = reason


class State(NamedTuple):
    """The progress of a process in its chunk.

    Attributes:
        read: number of images whose reading has started.
        done: number of images that have their row.
        failed: number of images among `done` without a vector.
        at_once: most images that a process may have in progress.
        reading: 1 while the last image of `read` is being read, 0 while an image is computed.
    """

    read: int = 0
    done: int = 0
    failed: int = 0
    at_once: int = 1
    reading: int = 0

    def in_hand(self) -> list[int]:
        """Indices in the chunk of the images that are being read or computed."""
        begun = range(self.done, min(self.read, self.done + self.at_once))
        if not self.reading:
            return list(begun)
        last = self.read - 1
        return [last] if self.at_once == 1 else sorted({*begun, last})


class OpenPart(NamedTuple):
    """The content of the open part file after a chunk.

    Attributes:
        vector_bytes: bytes of all its vectors.
        failed: rows without a vector.
        done: number of images of the chunk that have their row: all of them, or the first ones if
            the process was stopped.
    """

    vector_bytes: int
    failed: int
    done: int


class Scoreboard:
    """A `State` in memory that two processes share, and the parent's request to stop."""

    _FORM = struct.Struct("<qqqqq")
    EMPTY = bytes(_FORM.size + 1)

    def __init__(self, descriptor: int) -> None:
        """Share it.

        Args:
            descriptor: of an open file that begins with `EMPTY`; it may be closed afterwards.
        """
        self._map = mmap.mmap(descriptor, len(self.EMPTY))

    def write(self, state: State) -> None:
        """Write the progress."""
        self._FORM.pack_into(self._map, 0, *state)

    def read(self) -> State:
        """Read the progress."""
        return State(*self._FORM.unpack_from(self._map))

    def tell_to_stop(self) -> None:
        """Request that no further image is started."""
        self._map[self._FORM.size] = 1

    def is_told_to_stop(self) -> bool:
        """Whether the parent has requested to stop."""
        return bool(self._map[self._FORM.size])


class WorkerProcess:
    """The parent's handle of one worker process."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        # Not in the table's folder: some network file systems cannot share memory.
        with tempfile.TemporaryFile() as shared:
            shared.write(Scoreboard.EMPTY)
            shared.flush()
            self._shared_as = shared.fileno()
            self._scoreboard = Scoreboard(self._shared_as)
            self._child = ChildProcess(
                "pomona.processes.worker_main", own_group=True, descriptors=[self._shared_as]
            )

    def progress(self) -> State:
        """Return the progress of the process in its chunk."""
        return self._scoreboard.read()

    def wait_until_ready(self) -> int:
        """Wait until the encoder is loaded, and return the number of loaded models.

        Raises:
            WorkerDied: the process ended.
            PomonaError: the worker cannot start, for this reason.
        """
        loads: int = self._ask((self._setup, self._shared_as))
        return loads

    def renew(self, setup: Setup) -> None:
        """Change the settings of a process without an open part file, except encoder and decoding.

        Raises:
            WorkerDied: the process has ended.
        """
        self._ask(setup)

    def run(self, files: list[ImageFile]) -> OpenPart:
        """Let the process turn images into rows of the open part file.

        Raises:
            WorkerDied: the process ended meanwhile.
            PomonaError: it could not continue, and no image is the cause.
        """
        state: OpenPart = self._ask(files)
        return state

    def close_part(self) -> Part:
        """Let the process complete the open part file.

        Raises:
            WorkerDied: the process ended meanwhile.
            PomonaError: the file could not be written.
        """
        part: Part = self._ask(None)
        return part

    def finish(self) -> None:
        """Let the process end its chunk after the images in progress; for another thread."""
        self._scoreboard.tell_to_stop()

    def kill(self, reason: str) -> None:
        """Kill the process; a caller that waits gets `WorkerDied` with this reason."""
        self._child.kill(reason)

    def close(self) -> None:
        """Kill the process if it still runs, and release its resources."""
        self._child.close()

    def _ask(self, order: object) -> Any:
        self._scoreboard.write(State())
        try:
            reply = self._child.ask(order)
        except Ended as end:
            raise WorkerDied(self._scoreboard.read().in_hand(), str(end)) from None
        self._scoreboard.write(State())
        return reply
