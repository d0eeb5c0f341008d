"""Images done one by one in a process of their own, which may crash or hang without harm.

Spark's Python workers compute in their own process, the fastest way. Where one of them died, the
wave is done again through this: the worker only hands images on and takes rows back. So an image
that ends its process gets its row, and all others theirs. The other side:
`pomona.processes.isolated_main`.
"""

from __future__ import annotations

import io
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from pomona.errors import RunError
from pomona.processes.child import ChildProcess, Ended
from pomona.schema import FEATURE_SCHEMA, INPUT_SCHEMA, failure_row

if TYPE_CHECKING:
    from pomona.encoder.encoder import Encoder
    from pomona.worker.prepare import DecodeOptions

__all__ = [
    "ENDS_IN_A_ROW",
    "STRIKES",
    "IsolatedWorker",
    "canary_image",
    "end_if_stuck",
    "isolated_worker",
    "no_image_is_to_blame",
]

STRIKES = 2
"""Processes that an image may end before it is called their cause."""

ENDS_IN_A_ROW = 8
"""Processes that may end with nothing done before it is asked whether images are the cause."""


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
        self._child: ChildProcess | None = None
        self._ends_in_a_row = 0

    def featurize(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Do what `pomona.worker.featurize.featurize` does, one image at a time.

        Raises:
            RunError: processes end over a known image as well: no image is the cause of that.
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
        for _ in range(STRIKES):
            try:
                row = self._ask(image)
            except Ended as end:
                reason = str(end)
            else:
                self._ends_in_a_row = 0
                return row
        if self._ends_in_a_row >= ENDS_IN_A_ROW:
            self._try_known_image()
        (told,) = image.drop_columns(["content"]).to_pylist()
        modified = told["modified"]
        return failure_row(
            path=told["path"],
            label=told["label"],
            size=told["size"],
            modified_ms=None if modified is None else round(modified.timestamp() * 1000),
            status="crashed",
            error=reason,
        )

    def _ask(self, image: pa.RecordBatch) -> pa.RecordBatch:
        child = self._child or self._start()
        limit_s = self._timeout_s if math.isfinite(self._timeout_s) else None
        try:
            return child.ask(image, limit_s)
        except TimeoutError:
            self.close()
            self._ends_in_a_row += 1
            raise Ended(f"one image took longer than {self._timeout_s:g} s") from None
        except Ended:
            self.close()
            self._ends_in_a_row += 1
            raise

    def _start(self) -> ChildProcess:
        """Start a process and hand it the encoder; where it ends over that, another one."""
        reason = ""
        for _ in range(ENDS_IN_A_ROW):
            # What Spark put on the path of its workers, as --py-files does, is in no environment.
            path = os.pathsep.join(filter(None, sys.path))
            self._child = ChildProcess(
                "pomona.processes.isolated_main", environment={**os.environ, "PYTHONPATH": path}
            )
            try:
                self.loads += self._child.ask((self._fetch().to_bytes(), self._decode))
            except Ended as end:
                reason = str(end)
                self.close()
            else:
                return self._child
        raise RunError(
            f"{ENDS_IN_A_ROW} processes in a row ended before their first image, the last one "
            f"because {reason}"
        )

    def _try_known_image(self) -> None:
        """Find out whether all these ends were their images' fault.

        Raises:
            RunError: they were not.
        """
        columns = {name: [None] for name in INPUT_SCHEMA.names} | {"content": [canary_image()]}
        try:
            self._ask(pa.RecordBatch.from_pydict(columns, INPUT_SCHEMA))
        except Ended as end:
            raise RunError(no_image_is_to_blame(self._ends_in_a_row, str(end))) from None
        self._ends_in_a_row = 0


def canary_image() -> bytes:
    """A small JPEG, drawn here: a process that ends over this one would do so over any."""
    from PIL import Image

    opened = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(opened, "JPEG")
    return opened.getvalue()


def no_image_is_to_blame(ends: int, reason: str) -> str:
    """What to say when processes end over a known image as well."""
    return (
        f"{ends} processes in a row ended with nothing done, the last one over a drawn picture: "
        f"{reason}; see whether memory is short, or a library is broken"
    )


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
