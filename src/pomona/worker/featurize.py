"""The worker: record batches of images in, record batches of feature rows out.

Pure Arrow: it knows no engine. The embedded engine and Spark's `mapInArrow` call the same function,
so that their rows are the same.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pomona.schema import FEATURE_SCHEMA, QUALITY_COLUMNS
from pomona.worker.pillow_limits import quiet_codecs
from pomona.worker.prepare import (
    EXACT,
    DecodeOptions,
    File,
    Prepared,
    Preparer,
    Row,
    Seen,
    prefetch,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.encoder.preprocessing import Pixels
    from pomona.runtime.runtime import Runtime

__all__ = ["encode_images", "featurize", "images_at_once", "vectors_array"]

_BATCHES_AHEAD = 2  # threads decode these while a device computes one

OnImage = Callable[[str], None]


def featurize(  # noqa: PLR0913, PLR0917 - settings, each with a sensible default
    batches: Iterable[pa.RecordBatch],
    runtime: Runtime,
    options: DecodeOptions = EXACT,
    on_image: OnImage = lambda _: None,
    seen: Seen | None = None,
    threads: int = 1,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[pa.RecordBatch]:
    """Turn images into rows of the feature table, one for each, in their order.

    Args:
        batches: of `pomona.schema.INPUT_SCHEMA`.
        runtime: the loaded encoder.
        options: how images become pixels.
        on_image: called after each image with its status.
        seen: images that this worker computed before, with the same runtime and options.
        threads: number of threads that decode, if the runtime computes several images at once.
        stopped: called before each image. If it returns True, no further image is started.

    Yields:
        One record batch of `pomona.schema.FEATURE_SCHEMA` for each input batch. If the worker is
        stopped, the last one has fewer rows.
    """
    waiting: deque[pa.RecordBatch] = deque()  # their images are in progress

    def files() -> Iterator[File]:
        for batch in batches:
            waiting.append(batch)
            errors = batch["read_error"] if "read_error" in batch.schema.names else None
            for file in _files(batch["content"], errors):
                if stopped():
                    return
                yield file

    images = _encoded(files(), runtime, options, on_image, seen or Seen(), threads)
    rows: list[Row] = []
    is_over = False
    while not is_over:
        with quiet_codecs():
            for row in images:
                rows.append(row)
                if len(rows) >= waiting[0].num_rows:
                    break
            else:
                is_over = True
        while waiting and len(rows) >= waiting[0].num_rows:
            batch = waiting.popleft()
            done, rows = rows[: batch.num_rows], rows[batch.num_rows :]
            yield _to_batch(batch, done, runtime.dimension)
    if rows:  # it was stopped within a batch
        yield _to_batch(waiting[0].slice(0, len(rows)), rows, runtime.dimension)


def encode_images(
    contents: pa.Array,
    read_errors: pa.Array | None,
    runtime: Runtime,
    options: DecodeOptions = EXACT,
    threads: int = 1,
) -> tuple[list[Row], NDArray[np.float32]]:
    """Decode, preprocess and predict.

    Args:
        contents: the bytes of N files; null if a file could not be read.
        read_errors: N reasons for a null, or None.
        runtime: the loaded encoder, of dimension D.
        options: how images become pixels.
        threads: number of threads that decode, if the runtime computes several images at once.

    Returns:
        N rows, and the vectors of the rows with status `ok`: (number of ok, D) float32.
    """
    files = _files(contents, read_errors)
    with quiet_codecs():
        rows = list(_encoded(files, runtime, options, lambda _: None, Seen(), threads))
    return rows, _vectors(rows, runtime.dimension)


def images_at_once(runtime: Runtime) -> int:
    """Return how many images a worker may have in progress."""
    size = runtime.batch_size
    return size if size == 1 else size * (1 + _BATCHES_AHEAD)


def _files(contents: pa.Array, read_errors: pa.Array | None) -> Iterator[File]:
    reasons = itertools.repeat(None) if read_errors is None else read_errors.to_pylist()
    for content, reason in zip(contents, reasons, strict=False):
        yield content.as_buffer(), reason


def _encoded(  # noqa: PLR0913, PLR0917 - the parameters of `featurize`
    files: Iterable[File],
    runtime: Runtime,
    options: DecodeOptions,
    on_image: OnImage,
    seen: Seen,
    threads: int,
) -> Iterator[Row]:
    """Yield the files' rows in their order, each as soon as it is complete."""
    spec, size = runtime.preprocessing, runtime.batch_size
    rows: list[Row] = []  # in progress
    unseen: list[tuple[Row, Pixels]] = []  # those of them to compute

    def predict() -> None:
        vectors = np.empty((len(unseen), runtime.dimension), np.float32)
        runtime.predict(_stacked([image for _, image in unseen]), vectors)
        for (row, _), vector in zip(unseen, vectors, strict=True):
            row.vector = vector
            seen.add(row)
        unseen.clear()

    def finished() -> Iterator[Row]:
        for row in rows:
            on_image(row.status)
            yield row
        rows.clear()

    prepare = Preparer(spec, options, seen)
    if size == 1:  # this thread also decodes
        ready: Iterator[Prepared] = map(prepare, files)
    else:
        ready = prefetch(prepare, files, threads, size * _BATCHES_AHEAD)
    for row, image in ready:
        rows.append(row)
        if image is not None:
            unseen.append((row, image))
        if unseen and len(rows) >= size:  # failed images count too, so that no row waits long
            predict()
        if not unseen:
            yield from finished()
    if unseen:
        predict()
    yield from finished()


def _stacked(images: list[Pixels]) -> Pixels:
    return images[0][None] if len(images) == 1 else np.stack(images)  # one is not copied


def _to_batch(batch: pa.RecordBatch, rows: list[Row], dimension: int) -> pa.RecordBatch:
    columns: dict[str, Any] = {name: batch[name] for name in ("path", "label", "size", "modified")}
    ok = [row.status == "ok" for row in rows]
    columns["features"] = vectors_array(ok, _vectors(rows, dimension))
    for name in ("status", "error", "width", "height", "format", *QUALITY_COLUMNS):
        columns[name] = pa.array(
            [getattr(row, name) for row in rows], FEATURE_SCHEMA.field(name).type
        )
    columns["content_sha256"] = pa.array([row.sha256 for row in rows], pa.string())
    return pa.RecordBatch.from_arrays(
        [columns[n] for n in FEATURE_SCHEMA.names], schema=FEATURE_SCHEMA
    )


def _vectors(rows: list[Row], dimension: int) -> NDArray[np.float32]:
    """Return the vectors of rows with status `ok`: (number of ok, dimension) float32."""
    found = [row.vector for row in rows if row.vector is not None]
    return np.stack(found) if found else np.empty((0, dimension), np.float32)


def vectors_array(ok: list[bool], features: NDArray[np.float32]) -> pa.ListArray:
    """Return vectors as an Arrow list array without copying them.

    Args:
        ok: N flags; False becomes null.
        features: (number of True, D) float32.
    """
    present = np.asarray(ok, dtype=bool)
    offsets = np.zeros(len(present) + 1, np.int32)
    np.cumsum(present * features.shape[1], out=offsets[1:])
    return pa.ListArray.from_arrays(
        pa.array(offsets),
        pa.array(features.reshape(-1)),
        type=FEATURE_SCHEMA.field("features").type,
        mask=pa.array(~present),
    )
