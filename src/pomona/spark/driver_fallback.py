"""Images that Spark leaves out: empty files, names that are not text, files it could not read.

They are few. The driver computes their rows, each image in isolation: it must survive an image that
ends a worker.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pomona.processes.isolated_client import IsolatedWorker
from pomona.runtime.registry import LazyRuntime
from pomona.source.kept import with_kept
from pomona.table.failed_files import FailedFile, failed_in
from pomona.worker.featurize import featurize

if TYPE_CHECKING:
    from pomona.job.job import Job
    from pomona.source.image_file import ImageFile
    from pomona.spark.storage.choose import ImageStore, TableStore

__all__ = ["DriverFallback"]

_ROWS = 4096  # in one commit: 20 MB of vectors


class DriverFallback:
    """Computes rows of images on the driver, for all waves of a run.

    Attributes:
        done: images done so far, by status.
        failed_files: the images among them without a vector.
    """

    def __init__(self, job: Job, images: ImageStore, rows: TableStore) -> None:
        self.done: Counter[str] = Counter()
        self.failed_files: list[FailedFile] = []
        self._job = job
        self._images = images
        self._rows = rows
        self._worker = IsolatedWorker(lambda: job.encoder, job.decode, job.image_timeout_s)
        self._one_at_a_time = threading.Lock()
        self._stopped = False

    def do(self, files: list[ImageFile]) -> None:
        """Write the rows of some images; waves wait for each other.

        Raises:
            RunError: processes also end over a known image, so no image is the cause.
        """
        with self._one_at_a_time:
            for rows in _in_groups(self._featurized(files)):
                self._rows.append_batches(rows, self._job.provenance())
                for batch in rows:
                    self.done.update(batch["status"].to_pylist())
                    self.failed_files += failed_in(batch)

    def stop(self) -> None:
        """Start no further image."""
        self._stopped = True

    def close(self) -> None:
        """End the process."""
        self._worker.close()

    @property
    def model_loads(self) -> int:
        """Return the number of models that the process has loaded."""
        return self._worker.loads

    def _featurized(self, files: Sequence[ImageFile]) -> Iterator[pa.RecordBatch]:
        network = LazyRuntime(self._job.encoder)
        by_uri = {file.uri: file for file in files}
        for batch in self._images.read(files, self._job.label):
            if self._stopped:
                return
            has_bytes = pc.fill_null(pc.greater(pc.binary_length(batch["content"]), 0), False)
            without = batch.filter(pc.invert(has_bytes))
            # A row without bytes needs no decoder, and so no separate process.
            for rows in chain(
                featurize(iter([without]), network, self._job.decode),
                self._worker.featurize(iter([batch.filter(has_bytes)])),
            ):
                of_rows = [by_uri[uri] for uri in rows["path"].to_pylist()]
                yield with_kept(rows, of_rows, self._job.kept)


def _in_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Yield groups of batches, with some thousand rows each."""
    group: list[pa.RecordBatch] = []
    for batch in batches:
        if batch.num_rows:
            group.append(batch)
        if sum(rows.num_rows for rows in group) >= _ROWS:
            yield group
            group = []
    if group:
        yield group
