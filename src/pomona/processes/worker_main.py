"""The program of a worker process of the embedded engine.

    python -m pomona.processes.worker_main

It keeps one part file open over many orders, and completes it on the parent's order.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from importlib.abc import MetaPathFinder
from itertools import islice
from typing import TYPE_CHECKING, Any

from pomona.encoder.encoder import Encoder
from pomona.errors import RunError
from pomona.processes.child import serve
from pomona.processes.worker_client import OpenPart, Part, Scoreboard, Setup, State
from pomona.runtime.registry import load_once, loads_since
from pomona.schema import schema_with_provenance
from pomona.source.image_file import Content, ImageFile, read_batches
from pomona.source.kept import with_kept
from pomona.table.failed_files import NAMED_FAILURES, FailedFile, failed_in
from pomona.table.part_file import PartWriter, part_name
from pomona.worker.featurize import featurize, images_at_once
from pomona.worker.prepare import Seen

if TYPE_CHECKING:
    import pyarrow as pa

__all__: list[str] = []


class _Worker:
    """The state of the process: it owns the open part file."""

    def __init__(self, setup: Setup, scoreboard: Scoreboard) -> None:
        encoder = Encoder.load(setup.encoder)
        self._runtime = load_once(encoder.fingerprint, lambda: encoder, endpoint=setup.endpoint)
        made_by = {**encoder.provenance(), **setup.decode.provenance()}
        self._schema = schema_with_provenance(made_by, setup.kept)
        self._setup = setup
        self._scoreboard = scoreboard
        self._seen = Seen()
        self._at_once = images_at_once(self._runtime)
        self._writer: PartWriter | None = None
        self._statuses: Counter[str] = Counter()
        self._failed_files: list[FailedFile] = []
        self.loads = loads_since()

    def answer(self, order: Setup | list[ImageFile] | None) -> OpenPart | Part | None:
        if isinstance(order, Setup):
            self._setup = order
            return None
        return self._close_part() if order is None else self._run(order)

    def _run(self, files: list[ImageFile]) -> OpenPart:
        if self._writer is None:
            self._writer = PartWriter(self._setup.staging / part_name(), self._schema)
        read = done = failed = 0

        def reading(contents: Iterator[Content]) -> Iterator[Content]:
            nonlocal read
            for _ in files:
                read += 1
                self._scoreboard.write(State(read, done, failed, self._at_once, reading=1))
                yield next(contents)

        def has_read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                self._scoreboard.write(State(read, done, failed, self._at_once))
                yield batch

        def on_image(status: str) -> None:
            nonlocal done, failed
            done += 1
            failed += status != "ok"
            self._statuses[status] += 1
            self._scoreboard.write(State(read, done, failed, self._at_once))

        setup, runtime = self._setup, self._runtime
        contents = reading(setup.reader.read(files))
        batches = has_read(read_batches(files, setup.label, contents))
        left = iter(files)
        for batch in featurize(
            batches,
            runtime,
            setup.decode,
            on_image,
            self._seen,
            setup.threads,
            self._scoreboard.is_told_to_stop,
        ):
            of_batch = list(islice(left, batch.num_rows))
            self._writer.write(with_kept(batch, of_batch, setup.kept))
            self._failed_files += islice(failed_in(batch), NAMED_FAILURES - len(self._failed_files))
        without = self._statuses.total() - self._statuses["ok"]
        return OpenPart(self._writer.rows * self._runtime.dimension * 4, without, done)

    def _close_part(self) -> Part:
        if self._writer is None:
            raise RunError("a worker received an order to close a part file that is not open")
        self._writer.close()
        part = Part(self._writer.path, self._writer.rows, self._statuses, self._failed_files)
        self._writer, self._statuses, self._failed_files = None, Counter(), []
        return part


class _Unneeded(MetaPathFinder):
    """Blocks imports of modules that libraries import themselves and that no worker needs.

    If pandas is installed, PyArrow imports it when it first converts a list; OpenVINO imports its
    model converter. Together they are a third of a worker's start and 40 MB.
    """

    _NAMES = ("pandas", "openvino.tools.ovc")

    def find_spec(self, fullname: str, *_: object) -> None:
        if fullname in self._NAMES:
            raise ModuleNotFoundError(f"{fullname} is not needed here", name=fullname)


def _begin(order: tuple[Setup, int]) -> tuple[int, Callable[[Any], Any]]:
    setup, shared_as = order
    worker = _Worker(setup, Scoreboard(shared_as))
    return worker.loads, worker.answer


if __name__ == "__main__":
    sys.meta_path.insert(0, _Unneeded())
    serve(_begin)
