"""One worker process of the embedded engine, as its parent sees it.

Orders go over the child's standard input and replies come over its standard output, both pickled:
the two are one program. A plain subprocess rather than `multiprocessing`, because that runs the
caller's `__main__` again in each child, which surprises scripts without a guard.

How far the child is stands in a small shared file, the scoreboard: writing it costs the child
nothing, and it is still there when the child is not. The other side: `pomona.engines.worker_main`.
"""

from __future__ import annotations

import mmap
import pickle
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pomona.engines.isolation import ending
from pomona.errors import PomonaError
from pomona.labels import LabelRule
from pomona.source import ImageFile
from pomona.worker import DecodeOptions

__all__ = ["OpenPart", "Part", "Scoreboard", "Setup", "State", "WorkerDied", "WorkerProcess"]


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker process needs to know once."""

    encoder: Path
    staging: Path
    label: LabelRule
    decode: DecodeOptions


@dataclass(frozen=True, slots=True)
class Part:
    """A whole part file in the staging folder."""

    path: Path
    rows: int
    by_status: Counter[str]


class WorkerDied(Exception):  # noqa: N818 - it is news to its parent, not an error to a user
    """The process ended without a reply.

    Attributes:
        at: index in the chunk of the image in hand; None if none was.
        reason: how it ended, in one line.
    """

    def __init__(self, at: int | None, reason: str) -> None:
        super().__init__(reason)
        self.at = at
        self.reason = reason


class State(NamedTuple):
    """How far a process is with its chunk: images begun to be read, done, and failed of those."""

    read: int
    done: int
    failed: int


class OpenPart(NamedTuple):
    """What the open part file holds: bytes of vectors, and rows without one."""

    vector_bytes: int
    failed: int


class Scoreboard:
    """A `State` in a small shared file."""

    _FORM = struct.Struct("<qqq")

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(self._FORM.size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), self._FORM.size)

    def write(self, state: State) -> None:
        """Say how far it is."""
        self._FORM.pack_into(self._map, 0, *state)

    def read(self) -> State:
        """How far it is."""
        return State(*self._FORM.unpack_from(self._map))


class WorkerProcess:
    """The parent's handle of one worker process."""

    def __init__(self, setup: Setup, number: int) -> None:
        self._scoreboard_path = setup.staging / f"worker-{number}.scoreboard"
        self._scoreboard_path.unlink(missing_ok=True)
        self._scoreboard = Scoreboard(self._scoreboard_path)
        self._killed_for: str | None = None
        self._noise = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pomona.engines.worker_main"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._noise,
            process_group=0,  # Ctrl-C is for the parent, which then ends its workers
        )
        self._setup = setup

    def progress(self) -> State:
        """How far the process is with its chunk."""
        return self._scoreboard.read()

    def wait_until_ready(self) -> int:
        """Wait for the encoder to be loaded; gives the number of models loaded.

        Raises:
            WorkerDied: it ended instead.
            PomonaError: it said why it cannot work.
        """
        self._send((self._setup, self._scoreboard_path))
        loads: int = self._receive()
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

    def kill(self, reason: str) -> None:
        """End the process; whoever waits for its reply gets `WorkerDied` with this reason."""
        self._killed_for = reason
        self._process.kill()

    def close(self) -> None:
        """End the process if it still runs, and let go of what belongs to it."""
        self._process.kill()
        self._process.wait()
        for stream in filter(None, (self._process.stdin, self._process.stdout, self._noise)):
            with suppress(BrokenPipeError):  # an order that the dead process never read
                stream.close()
        self._scoreboard_path.unlink(missing_ok=True)

    def _ask(self, order: list[ImageFile] | None) -> Any:
        self._scoreboard.write(State(0, 0, 0))
        self._send(order)
        reply = self._receive()
        self._scoreboard.write(State(0, 0, 0))
        return reply

    def _send(self, message: Any) -> None:
        assert self._process.stdin  # noqa: S101 - opened in __init__
        try:
            pickle.dump(message, self._process.stdin)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None

    def _receive(self) -> Any:
        assert self._process.stdout  # noqa: S101 - opened in __init__
        try:
            reply = pickle.load(self._process.stdout)  # noqa: S301 - from our own process
        except (EOFError, pickle.UnpicklingError):
            raise self._death() from None
        if isinstance(reply, PomonaError):
            raise reply
        return reply

    def _death(self) -> WorkerDied:
        code = self._process.wait()
        state = self._scoreboard.read()
        in_hand = state.done if state.read > state.done else None
        return WorkerDied(in_hand, self._killed_for or ending(code, self._noise))
