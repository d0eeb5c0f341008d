"""A child process that answers orders: the parent's side and the child's side.

Orders go to its standard input and replies come from its standard output, both pickled, because
both sides are one program. It is a plain subprocess, not `multiprocessing`, which runs the caller's
`__main__` again in each child and breaks scripts without a guard.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

from pomona.errors import PomonaError, RunError

__all__ = ["ChildProcess", "Ended", "serve"]

_LONGEST_POLL_MS = 2**31 - 1  # the largest int of the kernel: 24 days


class Ended(Exception):  # noqa: N818 - it is news to its parent, not an error to a user
    """The process ended or was killed without a reply; the reason is one line."""


class ChildProcess:
    """The parent's handle."""

    def __init__(
        self,
        module: str,
        *,
        own_group: bool = False,
        environment: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        """Start it.

        Args:
            module: run as `python -m`; it calls `serve`.
            own_group: do not pass the terminal's Ctrl-C to it, because the parent handles it.
            environment: environment instead of this process's own.
            descriptors: descriptors of open files that it inherits with the same numbers.
        """
        self._killed_for: str | None = None
        self._noise = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._noise,
            env=environment,
            process_group=0 if own_group else None,
            pass_fds=descriptors,
        )

    def ask(self, order: Any, timeout_s: float | None = None) -> Any:
        """Send an order, and wait for its reply.

        Args:
            order: anything that can be pickled.
            timeout_s: seconds to wait; None to wait without a limit.

        Raises:
            Ended: the process ended without a reply.
            TimeoutError: it has not replied; it may still run.
            PomonaError: it cannot carry out the order, for this reason.
        """
        orders, replies = self._process.stdin, self._process.stdout
        assert orders  # noqa: S101 - opened in __init__
        assert replies  # noqa: S101 - opened in __init__
        try:
            pickle.dump(order, orders)
            orders.flush()
            if timeout_s is not None and not _can_be_read(replies, timeout_s):
                raise TimeoutError
            reply = pickle.load(replies)  # noqa: S301 - from our own process
        except (BrokenPipeError, EOFError, pickle.UnpicklingError):
            code = self._process.wait()
            raise Ended(self._killed_for or _ending(code, self._noise)) from None
        if isinstance(reply, PomonaError):
            raise reply
        return reply

    def kill(self, reason: str) -> None:
        """Kill the process; a caller that waits for its reply gets `Ended` with this reason."""
        self._killed_for = reason
        self._process.kill()

    def close(self) -> None:
        """Kill the process if it still runs, and close its pipes."""
        self._process.kill()
        self._process.wait()
        for stream in filter(None, (self._process.stdin, self._process.stdout, self._noise)):
            with suppress(BrokenPipeError):  # an order that the dead process never read
                stream.close()


def serve(begin: Callable[[Any], tuple[Any, Callable[[Any], Any]]]) -> None:
    """Run as the child until the parent closes the pipe or ends.

    Args:
        begin: called with the first order; returns its reply, and a function that answers all later
            orders.
    """
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    # Both signals may go to a whole group of processes, but only the parent decides when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    orders, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of libraries must not be read as a reply

    def reply(message: Any) -> None:
        pickle.dump(message, replies)
        replies.flush()

    try:
        first, answer = begin(pickle.load(orders))  # noqa: S301 - from our own parent
        reply(first)
        while True:
            reply(answer(pickle.load(orders)))  # noqa: S301 - from our own parent
    except EOFError:
        return
    except PomonaError as error:
        reply(error)
    except OSError as error:
        reply(RunError(f"a worker could not continue: {error}"))


def _can_be_read(replies: IO[bytes], timeout_s: float) -> bool:
    waiting = select.poll()  # `select` itself refuses descriptors above 1023
    waiting.register(replies, select.POLLIN)
    return bool(waiting.poll(min(timeout_s * 1000, _LONGEST_POLL_MS)))


def _ending(code: int, noise: IO[bytes]) -> str:
    """Return how a process ended, in one line: its signal, or its exit code and its last output."""
    if code < 0:
        return f"the process was killed by {signal.Signals(-code).name}"
    noise.seek(0)
    last = noise.read()[-2000:].decode(errors="replace").strip().splitlines()
    return f"the process ended with code {code}" + (f": {last[-1]}" if last else "")


def _end_with(parent: int) -> None:
    """End this process soon after its parent, even if it is busy; this runs in a thread."""
    while os.getppid() == parent:
        time.sleep(2)
    os._exit(1)
