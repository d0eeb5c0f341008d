"""Computes images one by one in a separate process, which may crash or hang without harm.

Spark's Python workers compute in their own process, which is the fastest way. If one of them dies,
this repeats the wave: the worker only passes images on and receives rows. So an image that ends its
process gets its row, and so do all others. The child's side is `pomona.processes.isolated_main`.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from pomona.processes.child import ChildProcess, Ended
from pomona.processes.crash_policy import CrashPolicy, canary_image
from pomona.schema import FEATURE_SCHEMA, INPUT_SCHEMA, failure_row

if TYPE_CHECKING:
    from pomona.encoder.encoder import Encoder
    from pomona.worker.prepare import DecodeOptions

__all__ = ["IsolatedWorker", "end_if_stuck", "isolated_worker"]


class IsolatedWorker:
    """Turns images into rows in a child process, and restarts the process if it ends."""

    def __init__(
        self, fetch: Callable[[], Encoder], decode: DecodeOptions, image_timeout_s: float
    ) -> None:
        """Create it; the process starts with the first image.

        Args:
            fetch: returns the encoder.
            decode: how images become pixels.
            image_timeout_s: seconds that one image may take before its process is killed.
        """
        self.loads = 0
        self._fetch = fetch
        self._decode = decode
        self._timeout_s = image_timeout_s
        self._child: ChildProcess | None = None
        self._crashes = CrashPolicy()

    def featurize(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Return the rows of `pomona.worker.featurize.featurize`, one image at a time.

        Raises:
            RunError: processes also end over a known image, so no image is the cause.
            EncoderError: the encoder cannot be loaded here.
        """
        for batch in batches:
            # `take` copies only this image; a slice would be pickled with its neighbours.
            rows = [self._row(batch.take(pa.array([i]))) for i in range(batch.num_rows)]
            yield from pa.Table.from_batches(rows, FEATURE_SCHEMA).combine_chunks().to_batches()

    def close(self) -> None:
        """End the process."""
        if self._child:
            self._child.close()
            self._child = None

    def _row(self, image: pa.RecordBatch) -> pa.RecordBatch:
        suspect = object()  # not the path: several images may have the same one, or none
        while True:
            try:
                row = self._ask(image)
            except Ended as end:
                is_cause = self._crashes.ended_over([suspect])
                if self._crashes.needs_canary:
                    self._do_canary()
                if is_cause:
                    return _crashed_row(image, str(end))
            else:
                self._crashes.done()
                self._crashes.kept()
                return row

    def _ask(self, image: pa.RecordBatch) -> pa.RecordBatch:
        child = self._child or self._start()
        limit_s = self._timeout_s if math.isfinite(self._timeout_s) else None
        try:
            return child.ask(image, limit_s)
        except TimeoutError:
            self.close()
            raise Ended(f"one image took longer than {self._timeout_s:g} s") from None
        except Ended:
            self.close()
            raise

    def _start(self) -> ChildProcess:
        """Start a process and send it the encoder. If it ends during that, start another one.

        Raises:
            RunError: too many processes in a row ended.
        """
        while True:
            # Paths that Spark adds to its workers (--py-files) are not in the environment.
            path = os.pathsep.join(filter(None, sys.path))
            self._child = ChildProcess(
                "pomona.processes.isolated_main", environment={**os.environ, "PYTHONPATH": path}
            )
            try:
                encoder = self._fetch()
                order = encoder.to_bytes(), encoder.endpoint, self._decode
                self.loads += self._child.ask(order)
            except Ended as end:
                self.close()
                self._crashes.ended_over_no_image(str(end))
            else:
                return self._child

    def _do_canary(self) -> None:
        """Check with a known image whether images are the cause of the ends.

        Raises:
            RunError: images are not the cause.
        """
        columns = {name: [None] for name in INPUT_SCHEMA.names} | {"content": [canary_image()]}
        try:
            self._ask(pa.RecordBatch.from_pydict(columns, INPUT_SCHEMA))
        except Ended as end:
            raise self._crashes.ended_over_canary(str(end)) from None
        self._crashes.done()


def _crashed_row(image: pa.RecordBatch, reason: str) -> pa.RecordBatch:
    (values,) = image.drop_columns(["content"]).to_pylist()
    modified = values["modified"]
    return failure_row(
        path=values["path"],
        label=values["label"],
        size=values["size"],
        modified_ms=None if modified is None else round(modified.timestamp() * 1000),
        status="crashed",
        error=reason,
    )


_workers: dict[tuple[str, DecodeOptions, float], IsolatedWorker] = {}


def isolated_worker(
    fingerprint: str, fetch: Callable[[], Encoder], decode: DecodeOptions, image_timeout_s: float
) -> IsolatedWorker:
    """Return this process's isolated worker for an encoder; its child ends with this process."""
    key = fingerprint, decode, image_timeout_s
    if key not in _workers:
        _workers[key] = IsolatedWorker(fetch, decode, image_timeout_s)
    return _workers[key]


class end_if_stuck:  # noqa: N801 - used like a function, in a `with`
    """Ends this process if one image takes too long: nothing else stops a codec.

    For Spark this is a crash of its worker.
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
        """Start the time of an image."""
        self._since = time.monotonic()

    def idle(self) -> None:
        """Stop the time: no image is in progress."""
        self._since = None

    def _watch(self) -> None:
        while not self._done.wait(min(1.0, self._timeout_s / 4)):
            since = self._since
            if since is not None and time.monotonic() - since > self._timeout_s:
                os.write(2, f"one image took longer than {self._timeout_s:g} s\n".encode())
                os._exit(1)
