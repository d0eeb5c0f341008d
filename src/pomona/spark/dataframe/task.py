"""The task that runs in Spark's Python workers: batches of images in, batches of rows out."""

from __future__ import annotations

import hashlib
import math
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pomona.processes.isolated_client import end_if_stuck, isolated_worker
from pomona.runtime.registry import loads_since
from pomona.schema import FEATURE_SCHEMA, INPUT_SCHEMA, column_metadata
from pomona.source.kept import NOTHING, with_kept
from pomona.spark.dataframe.columns import KEPT_PREFIX
from pomona.spark.encoder_transport import EncoderHandle, task_cpus
from pomona.spark.file_shares import FILES_COLUMN, read_shares
from pomona.spark.part_files import PART_SCHEMA, write_part
from pomona.worker.featurize import featurize
from pomona.worker.prepare import DecodeOptions

if TYPE_CHECKING:
    from pyspark import Accumulator
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructField

    from pomona.source.image_file import ImageFile
    from pomona.source.images import Reader
    from pomona.source.labels import LabelRule

__all__ = ["LOADS_COLUMN", "Task", "feature_rows"]

LOADS_COLUMN = "model_loads"
"""The first row of a batch has the number of models loaded since the previous batch."""

_COLUMNS = {"size": "length", "modified": "modificationTime"}  # ours: binaryFile's


def feature_rows(images: DataFrame, task: Task, kept: Iterable[StructField] = ()) -> DataFrame:
    """Run a task over images.

    The result has rows, with their provenance on the column `features`; or the names of part files,
    if the task has a folder.

    Args:
        images: columns `path` and `content`, and others of `INPUT_SCHEMA` or `binaryFile`; or
            shares of files, if the task has a reader.
        task: the task.
        kept: fields of the columns that pass through, named as in the task.
    """
    from pyspark.sql.pandas.types import from_arrow_schema
    from pyspark.sql.types import LongType

    known = {"path", "label", "content", FILES_COLUMN, *_COLUMNS, *_COLUMNS.values()}
    chosen = images.select(
        *(name for name in images.columns if name in known or name.startswith(KEPT_PREFIX))
    )
    schema = from_arrow_schema(FEATURE_SCHEMA if task.folder is None else PART_SCHEMA)
    for field in kept:
        schema = schema.add(field)
    if task.shows_loads:
        schema = schema.add(LOADS_COLUMN, LongType())
    rows = chosen.mapInArrow(task, schema)
    if task.folder is not None:
        return rows
    return rows.withMetadata("features", column_metadata(task.provenance()))


@dataclass(frozen=True, slots=True)
class Task:
    """A function from batches of images to batches of rows, pickled by reference.

    Attributes:
        handle: how workers get the encoder.
        label: makes labels from paths, in place of a column.
        decode: how images become pixels.
        tally: when a task ends, it adds its rows by status and the models that it loaded.
        shows_loads: whether rows have the column `LOADS_COLUMN`.
        isolated: compute in a child process, one image at a time, so that an image that ends that
            process gets a row.
        image_timeout_s: seconds that one image may take before its process is killed.
        kept: names of columns that pass through.
        kept_of_files: columns that the rows of shares of files get from these.
        stop_file: a file whose existence stops the task before its next image, or None.
        reader: reads the images, if the rows are shares of files; None if they have the contents.
        folder: where the task writes a part file, in place of yielding rows.
    """

    handle: EncoderHandle
    label: LabelRule | None
    decode: DecodeOptions
    tally: Accumulator[Counter[str]] | None = None
    shows_loads: bool = False
    isolated: bool = False
    image_timeout_s: float = math.inf
    kept: tuple[str, ...] = ()
    kept_of_files: pa.Schema = NOTHING
    stop_file: str | None = None
    reader: Reader | None = None
    folder: str | None = None

    def provenance(self) -> dict[str, str]:
        """Return the provenance of the rows."""
        return {**self.handle.provenance, **self.decode.provenance()}

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Turn batches of images, or of shares of files, into rows or the name of a part file."""
        results = self._rows(batches)
        if self.folder is not None:
            results = write_part(results, Path(self.folder), self.provenance())
        for result, loads in results:
            yield _with_loads(result, loads) if self.shows_loads else result

    def _rows(self, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[pa.RecordBatch, int]]:
        """Yield rows and the number of models loaded for them."""
        if self.stop_file is not None:
            _ignore_ctrl_c()
        waiting: deque[pa.RecordBatch] = deque()  # kept columns whose rows are not computed yet
        files: deque[ImageFile] = deque()  # whose rows are not computed yet
        batches = iter(batches)
        inputs = (
            (self._adapt(batch, waiting) for batch in batches)
            if self.reader is None
            else read_shares(batches, self.reader, self._label, files.extend)
        )
        first = next(inputs, None)
        if first is None or self._stopped():
            _drain(batches)
            return  # a task without images needs no network
        images = chain([first], inputs)
        counts: Counter[str] = Counter()
        for rows, loads in self._isolated(images) if self.isolated else self._here(images):
            counts.update(rows["status"].to_pylist(), **{LOADS_COLUMN: loads})
            if self.kept:
                rows = _with_kept(rows, waiting)  # noqa: PLW2901 - the same rows with more columns
            if self.reader is not None:
                of_rows = [files.popleft() for _ in range(rows.num_rows)]
                rows = with_kept(rows, of_rows, self.kept_of_files)  # noqa: PLW2901
            yield rows, loads
        _drain(batches)
        if self.tally is not None:
            self.tally.add(counts)

    def _here(self, images: Iterator[pa.RecordBatch]) -> Iterator[tuple[pa.RecordBatch, int]]:
        """Yield rows and the number of models loaded for them, computed in this process."""
        runtime = self.handle.runtime()
        with end_if_stuck(self.image_timeout_s) as watch:

            def watched() -> Iterator[pa.RecordBatch]:
                for batch in images:
                    watch.busy()
                    yield batch
                    watch.idle()  # while the next ones are read

            for rows in featurize(
                watched(),
                runtime,
                self.decode,
                on_image=lambda _: watch.busy(),
                threads=task_cpus(),
                stopped=self._stopped,
            ):
                watch.idle()
                yield rows, loads_since() if rows.num_rows else 0

    def _isolated(self, images: Iterator[pa.RecordBatch]) -> Iterator[tuple[pa.RecordBatch, int]]:
        """Yield rows and the number of models loaded for them, computed in a child process."""
        worker = isolated_worker(
            self.handle.fingerprint, self.handle.encoder, self.decode, self.image_timeout_s
        )
        for rows in worker.featurize(takewhile(lambda _: not self._stopped(), images)):
            loads, worker.loads = worker.loads, 0
            yield rows, loads

    def _stopped(self) -> bool:
        return self.stop_file is not None and os.path.exists(self.stop_file)  # noqa: PTH110 - quick

    def _adapt(self, batch: pa.RecordBatch, waiting: deque[pa.RecordBatch]) -> pa.RecordBatch:
        """Turn the columns of `binaryFile` into those of the worker, and put kept ones aside."""
        if self.kept:
            names = [f"{KEPT_PREFIX}{number}" for number in range(len(self.kept))]
            waiting.append(batch.select(names).rename_columns(list(self.kept)))
        columns = []
        for field in INPUT_SCHEMA:
            name = field.name
            if name == "label" and self.label is not None:
                labels = map(self._label, batch["path"].to_pylist())
                column = pa.array(labels, field.type)
            elif name in batch.schema.names:
                column = batch[name]
            elif _COLUMNS.get(name) in batch.schema.names:
                column = batch[_COLUMNS[name]]
            else:
                column = pa.nulls(batch.num_rows, field.type)
            if name == "path" and column.null_count:
                column = _named_by_content(column, batch["content"])
            # Contents keep their own type: a cast would copy every image.
            columns.append(column if name == "content" else column.cast(field.type))
        return pa.RecordBatch.from_arrays(columns, names=INPUT_SCHEMA.names)

    def _label(self, path: str | None) -> str | None:
        return None if path is None or self.label is None else self.label(path)


def _named_by_content(paths: pa.Array, contents: pa.Array) -> pa.Array:
    """Return paths, with a digest of the bytes in place of each null."""
    named = []
    for path, content in zip(paths.to_pylist(), contents, strict=True):
        buffer = content.as_buffer()
        unknown = "sha256:" + ("unknown" if buffer is None else hashlib.sha256(buffer).hexdigest())
        named.append(unknown if path is None else path)
    return pa.array(named, pa.string())


def _with_kept(rows: pa.RecordBatch, waiting: deque[pa.RecordBatch]) -> pa.RecordBatch:
    """Add the kept columns to rows, and remove these from the front of `waiting`."""
    chunks, missing = [waiting[0].slice(0, 0)], rows.num_rows
    while missing:
        first = waiting.popleft()
        chunks.append(first.slice(0, missing))
        if first.num_rows > missing:
            waiting.appendleft(first.slice(missing))
        missing -= chunks[-1].num_rows
    kept = pa.concat_batches(chunks) if len(chunks) > 2 else chunks[-1]
    fields = [*rows.schema, *kept.schema]
    return pa.RecordBatch.from_arrays([*rows.columns, *kept.columns], schema=pa.schema(fields))


def _ignore_ctrl_c() -> None:
    """Ignore SIGINT, which a terminal sends to every process of a job."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _drain(batches: Iterator[pa.RecordBatch]) -> None:
    """Read the rest of the input: Spark ends a Python worker that does not."""
    deque(batches, maxlen=0)


def _with_loads(rows: pa.RecordBatch, loads: int) -> pa.RecordBatch:
    column = np.zeros(rows.num_rows, np.int64)
    column[:1] = loads
    names = [*rows.schema.names, LOADS_COLUMN]
    return pa.RecordBatch.from_arrays([*rows.columns, pa.array(column)], names)
