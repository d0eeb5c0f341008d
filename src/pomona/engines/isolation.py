"""Images done one by one in a process of their own, which may crash or hang without harm.

Spark's Python workers compute in their own process, the fastest way. Where one of them died, the
wave is done again through this: the worker only hands images on and takes rows back. So an image
that ends its process gets its row, and all others theirs. The other side:
`pomona.engines.isolated_main`.
"""

from __future__ import annotations

import math
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa

from pomona.errors import PomonaError, RunError
from pomona.schema import FEATURE_SCHEMA, lone_row

if TYPE_CHECKING:
    from pomona.encoder.blob import Encoder
    from pomona.worker import DecodeOptions

__all__ = ["STRIKES", "IsolatedWorker", "end_if_stuck", "end_with", "ending", "isolated_worker"]

STRIKES = 2
"""Processes that an image may end before it is called their cause."""

_DEATHS_IN_A_ROW = 8  # processes that may die with no image done before no image is to blame


def ending(code: int, noise: IO[bytes]) -> str:
    """How a process ended, in one line: its signal, or its exit code and the last thing it said."""
    if code < 0:
        return f"the process was ended by {signal.Signals(-code).name}"
    noise.seek(0)
    last = noise.read()[-2000:].decode(errors="replace").strip().splitlines()
    return f"the process ended with code {code}" + (f": {last[-1]}" if last else "")


def end_with(parent: int) -> None:
    """End this process soon after its parent, even if an image holds it: for a thread."""
    while os.getppid() == parent:
        time.sleep(2)
    os._exit(1)


class _Died(Exception):  # noqa: N818 - it is news to its parent, not an error to a user
    """The process ended, or was ended, without a reply."""


class IsolatedWorker:
    """Turns images into rows in a child process, which is started again whenever it ends."""

    def __init__(
        self, fetch: Callable[[], Encoder], decode: DecodeOptions, image_timeout_s: float
    ) -> None:
        """Begin nothing yet.

        Args:
            fetch: gives the encoder.
            decode: how images become pixels.
            image_timeout_s: seconds that one image may take before its process is ended.
        """
        self.loads = 0
        self._fetch = fetch
        self._decode = decode
        self._timeout_s = image_timeout_s
        self._child: _Child | None = None
        self._deaths_in_a_row = 0

    def featurize(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Do what `pomona.worker.featurize` does, one image at a time.

        Raises:
            RunError: processes keep dying and get nothing done: no image is the cause of that.
            EncoderError: the encoder cannot be loaded here.
        """
        for batch in batches:
            # `take` copies just the one image, where a slice would be pickled with its neighbours.
            rows = [self._row(batch.take(pa.array([i]))) for i in range(batch.num_rows)]
            yield from pa.Table.from_batches(rows, FEATURE_SCHEMA).combine_chunks().to_batches()

    def close(self) -> None:
        """End the process."""
        if self._child:
            self._child.close()
            self._child = None

    def _row(self, image: pa.RecordBatch) -> pa.RecordBatch:
        reason = ""
        for _ in range(STRIKES):
            try:
                if self._child is None:
                    self._child = _Child()
                    self.loads += self._child.start(self._fetch(), self._decode)
                row = self._child.featurize(image, self._timeout_s)
            except _Died as death:
                reason = str(death)
                self.close()
                self._deaths_in_a_row += 1
                if self._deaths_in_a_row > _DEATHS_IN_A_ROW:
                    raise RunError(
                        f"{self._deaths_in_a_row} processes in a row ended with nothing done, the "
                        f"last one because {reason}"
                    ) from None
            else:
                self._deaths_in_a_row = 0
                return row
        (told,) = image.drop_columns(["content"]).to_pylist()
        modified = told["modified"]
        return lone_row(
            path=told["path"],
            label=told["label"],
            size=told["size"],
            modified_ms=None if modified is None else round(modified.timestamp() * 1000),
            status="crashed",
            error=reason,
        )


class _Child:
    """The process, as its parent sees it: messages are pickled, each way over a pipe."""

    def __init__(self) -> None:
        self._noise = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pomona.engines.isolated_main"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._noise,
            # What Spark put on the path of its workers, such as --py-files, is not in the
            # environment.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    def start(self, encoder: Encoder, decode: DecodeOptions) -> int:
        """Hand over the encoder; gives the number of models loaded."""
        loads: int = self._ask((encoder.to_bytes(), decode), None)
        return loads

    def featurize(self, image: pa.RecordBatch, timeout_s: float) -> pa.RecordBatch:
        """Have one image turned into its row."""
        return self._ask(image, timeout_s)

    def close(self) -> None:
        """End the process if it still runs."""
        self._process.kill()
        self._process.wait()
        for stream in filter(None, (self._process.stdin, self._process.stdout, self._noise)):
            with suppress(BrokenPipeError):  # an order that the dead process never read
                stream.close()

    def _ask(self, message: Any, timeout_s: float | None) -> Any:
        orders, replies = self._process.stdin, self._process.stdout
        assert orders  # noqa: S101 - opened in __init__
        assert replies  # noqa: S101 - likewise
        wait_s = None if timeout_s is None or math.isinf(timeout_s) else timeout_s
        try:
            pickle.dump(message, orders)
            orders.flush()
            if not select.select([replies], [], [], wait_s)[0]:
                raise _Died(f"one image took longer than {timeout_s:g} s")
            reply = pickle.load(replies)  # noqa: S301 - from our own process
        except (BrokenPipeError, EOFError, pickle.UnpicklingError):
            raise _Died(ending(self._process.wait(), self._noise)) from None
        if isinstance(reply, PomonaError):
            raise reply
        return reply


_workers: dict[tuple[str, DecodeOptions, float], IsolatedWorker] = {}


def isolated_worker(
    fingerprint: str, fetch: Callable[[], Encoder], decode: DecodeOptions, image_timeout_s: float
) -> IsolatedWorker:
    """This process's isolated worker for an encoder; its child ends with this process."""
    key = fingerprint, decode, image_timeout_s
    if key not in _workers:
        _workers[key] = IsolatedWorker(fetch, decode, image_timeout_s)
    return _workers[key]


class end_if_stuck:  # noqa: N801 - used like a function, in a `with`
    """Ends this process if one image takes too long in it: nothing else stops a codec.

    Spark takes it for a crash of its worker, which it is.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._since: float | None = None
        self._done = threading.Event()

    def __enter__(self) -> end_if_stuck:
        if math.isfinite(self._timeout_s):
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def busy(self) -> None:
        """An image begins."""
        self._since = time.monotonic()

    def idle(self) -> None:
        """Whatever takes long from here on is no image's fault."""
        self._since = None

    def _watch(self) -> None:
        while not self._done.wait(min(1.0, self._timeout_s / 4)):
            since = self._since
            if since is not None and time.monotonic() - since > self._timeout_s:
                os.write(2, f"one image took longer than {self._timeout_s:g} s\n".encode())
                os._exit(1)
