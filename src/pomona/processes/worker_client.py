"""One worker process of the embedded engine, as its parent sees it.

How far the child is stands in a little shared memory, the scoreboard: writing it costs the child
nothing, and it is still there when the child is not. `worker_main` is the other side.
"""

from __future__ import annotations

import mmap
import struct
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pomona.processes.child import ChildProcess, Ended
from pomona.source.image_file import ImageFile
from pomona.source.labels import LabelRule
from pomona.table.failed_files import FailedFile
from pomona.worker.prepare import DecodeOptions

__all__ = ["OpenPart", "Part", "Scoreboard", "Setup", "State", "WorkerDied", "WorkerProcess"]


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker process needs to know once.

    Attributes:
        threads: how many decode, where the encoder computes several images at once.
    """

    encoder: Path
    staging: Path
    label: LabelRule
    decode: DecodeOptions
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Part:
    """A whole part file in the staging folder.

    Attributes:
        path: where it is.
        rows: how many it has.
        by_status: the same by status.
        failed_files: the first few rows without a vector.
    """

    path: Path
    rows: int
    by_status: Counter[str]
    failed_files: list[FailedFile]


class WorkerDied(Exception):  # noqa: N818 - it is news to its parent, not an error to a user
    """The process ended without a reply.

    Attributes:
        at: indices in the chunk of the images in hand, in order; most often one, or none.
        reason: how it ended, in one line.
    """

    def __init__(self, at: list[int], reason: str) -> None:
        super().__init__(reason)
        self.at = at
        self.reason = reason


class State(NamedTuple):
    """How far a process is with its chunk.

    Attributes:
        read: images begun to be read.
        done: images that have their row.
        failed: those of them without a vector.
        at_once: how many a process may have in hand together.
        reading: 1 while the last of the first is being read, 0 while one is computed.
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
    """What the open part file holds after a chunk.

    Attributes:
        vector_bytes: bytes of all its vectors.
        failed: rows without a vector.
        done: images of the chunk that have their row: the first ones, and all unless the process
            was told to stop.
    """

    vector_bytes: int
    failed: int
    done: int


class Scoreboard:
    """A `State` in memory that two processes share, and the parent's word to stop."""

    _FORM = struct.Struct("<qqqqq")
    EMPTY = bytes(_FORM.size + 1)

    def __init__(self, descriptor: int) -> None:
        """Share it.

        Args:
            descriptor: of an open file that begins with `EMPTY`; it may be closed afterwards.
        """
        self._map = mmap.mmap(descriptor, len(self.EMPTY))

    def write(self, state: State) -> None:
        """Say how far it is."""
        self._FORM.pack_into(self._map, 0, *state)

    def read(self) -> State:
        """How far it is."""
        return State(*self._FORM.unpack_from(self._map))

    def tell_to_stop(self) -> None:
        """Say that no further image shall be begun."""
        self._map[self._FORM.size] = 1

    def is_told_to_stop(self) -> bool:
        """Whether no further image shall be begun."""
        return bool(self._map[self._FORM.size])


class WorkerProcess:
    """The parent's handle of one worker process."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        # Not beside the table: not every network's file system can share memory.
        with tempfile.TemporaryFile() as shared:
            shared.write(Scoreboard.EMPTY)
            shared.flush()
            self._shared_as = shared.fileno()
            self._scoreboard = Scoreboard(self._shared_as)
            self._child = ChildProcess(
                "pomona.processes.worker_main", own_group=True, descriptors=[self._shared_as]
            )

    def progress(self) -> State:
        """How far the process is with its chunk."""
        return self._scoreboard.read()

    def wait_until_ready(self) -> int:
        """Wait for the encoder to be loaded; gives the number of models loaded.

        Raises:
            WorkerDied: it ended instead.
            PomonaError: it said why it cannot work.
        """
        loads: int = self._ask((self._setup, self._shared_as))
        return loads

    def run(self, files: list[ImageFile]) -> OpenPart:
        """Have images turned into rows of the open part file.

        Raises:
            WorkerDied: the process ended on the way.
            PomonaError: it could not go on, for a reason that is not an image's.
        """
        state: OpenPart = self._ask(files)
        return state

    def close_part(self) -> Part:
        """Have the open part file made whole.

        Raises:
            WorkerDied: the process ended on the way.
            PomonaError: the file could not be written.
        """
        part: Part = self._ask(None)
        return part

    def finish(self) -> None:
        """Have the process end its chunk after the images in hand, from another thread."""
        self._scoreboard.tell_to_stop()

    def kill(self, reason: str) -> None:
        """End the process; whoever waits for its reply gets `WorkerDied` with this reason."""
        self._child.kill(reason)

    def close(self) -> None:
        """End the process if it still runs, and let go of what belongs to it."""
        self._child.close()

    def _ask(self, order: object) -> Any:
        self._scoreboard.write(State())
        try:
            reply = self._child.ask(order)
        except Ended as end:
            raise WorkerDied(self._scoreboard.read().in_hand(), str(end)) from None
        self._scoreboard.write(State())
        return reply
