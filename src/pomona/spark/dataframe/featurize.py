"""DataFrames of images: `featurize`, `featurize_udf`, and the task that runs in Spark's workers."""

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
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from pomona.encoder.encoder import Encoder
from pomona.errors import EngineError
from pomona.job.options import Delivery
from pomona.processes.isolated_client import end_if_stuck, isolated_worker
from pomona.runtime.registry import loads_since
from pomona.schema import (
    ENCODER_COLUMN,
    FEATURE_SCHEMA,
    INPUT_SCHEMA,
    column_metadata,
    encoder_value,
)
from pomona.source.labels import parse_label_rule
from pomona.spark.dataframe.columns import KEPT_PREFIX, select_images
from pomona.spark.encoder_transport import (
    EncoderHandle,
    encoder_handle,
    open_encoder,
    task_cpus,
)
from pomona.spark.session.session import active_session, functions_of
from pomona.worker.featurize import encode_images
from pomona.worker.featurize import featurize as featurize_batches
from pomona.worker.prepare import EXACT, DecodeOptions

if TYPE_CHECKING:
    from pyspark import Accumulator
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructField

    from pomona.source.labels import LabelRule

__all__ = ["LOADS_COLUMN", "Task", "feature_rows", "featurize", "featurize_udf"]

LOADS_COLUMN = "model_loads"
"""Where a task shows, in the first row of a batch, how many models it has loaded since the last."""

_COLUMNS = {"size": "length", "modified": "modificationTime"}  # ours: binaryFile's


def featurize(  # noqa: PLR0913 - settings, each with a sensible default
    images: DataFrame,
    encoder: Encoder | str | os.PathLike[str],
    *,
    image_column: str = "content",
    path_column: str = "path",
    label_column: str | None = None,
    keep: Iterable[str] | Literal["all"] = (),
    label: LabelRule | str | None = None,
    decode: DecodeOptions = EXACT,
    delivery: Delivery | None = None,
    isolated: bool = False,
    image_timeout_s: float = math.inf,
) -> DataFrame:
    """Turn a DataFrame of images into rows of the feature table, lazily.

    Column names match as in Spark: letter case matters only if `spark.sql.caseSensitive` is set.
    A name such as `image.bytes` is a field of a struct. `size` or `length` and `modified` or
    `modificationTime` are read if they exist.

    Args:
        images: the DataFrame, such as that of `binaryFile`.
        encoder: the encoder, or its path or URI.
        image_column: the column with the bytes of the images, binary.
        path_column: the column with the URI or the key of each image, string or integer. If it is
            null, the row gets `sha256:` and the digest of its bytes.
        label_column: the column with the labels; by default `label` if there is one.
        keep: names of columns to append to the rows, or `all` for all except the images' bytes.
        label: a rule that makes labels from paths, as in `extract`, in place of a column.
        decode: how images become pixels.
        delivery: `broadcast` sends the encoder to the workers; with `file` each worker process
            reads it. The default is `file` for a URI of another file system.
        isolated: compute in a child process of each worker, one image at a time. An image that
            crashes it gets the status `crashed` and does not end the query.
        image_timeout_s: seconds that one image may take before its process is ended.

    Returns:
        One row for each image: the columns of the feature table with provenance on `features`, the
        column `encoder` with the same provenance as JSON, and the kept columns.

    Raises:
        EncoderError: the encoder cannot be read.
        EngineError: a column is missing, has the wrong type, or has a name that is already used.
    """
    rule = parse_label_rule(label) if isinstance(label, str) else label
    chosen, kept = select_images(
        images, image_column, path_column, label_column, keep, has_rule=rule is not None
    )
    loaded, location = open_encoder(encoder, delivery)
    carrier = encoder_handle(images.sparkSession, loaded, location)
    names = tuple(field.name for field in kept)
    task = Task(
        carrier, rule, decode, kept=names, isolated=isolated, image_timeout_s=image_timeout_s
    )
    functions = functions_of(images.sparkSession)
    made = functions.lit(encoder_value(task.provenance())).alias(ENCODER_COLUMN)
    rows = feature_rows(chosen, task, kept)
    return rows.select(*FEATURE_SCHEMA.names, made, *(functions.col(f"`{name}`") for name in names))


def featurize_udf(
    encoder: Encoder | str | os.PathLike[str],
    spark: SparkSession | None = None,
    *,
    delivery: Delivery | None = None,
) -> Any:
    """Return a Scalar-Iterator pandas UDF from image bytes to `array<float>`; null if undecodable.

        features = featurize_udf(encoder)
        images.select("path", "label", features("content").alias("features"))
        spark.udf.register("featurize", features)

    Spark computes each image once in a query, also if a filter follows. Therefore the function
    is marked nondeterministic: Spark refuses it in a join condition and inside an aggregate.

    Args:
        encoder: the encoder, or its path or URI.
        spark: the session; by default the active one, whichever thread started it.
        delivery: `broadcast` or `file`, as for `featurize`.

    Raises:
        EncoderError: the encoder cannot be read.
        EngineError: no session is active.
    """
    import pandas as pd
    from pyspark.sql.pandas.functions import pandas_udf

    spark = spark or active_session()
    if spark is None:
        raise EngineError("featurize_udf needs a Spark session: start one, or pass spark=")
    loaded, location = open_encoder(encoder, delivery)
    carrier = encoder_handle(spark, loaded, location)

    def features(batches: Any) -> Any:
        runtime = carrier.runtime()
        for contents in batches:
            _check_bytes(contents)
            array = pa.array(contents, pa.large_binary(), from_pandas=True)
            rows, vectors = encode_images(array, None, runtime, EXACT, task_cpus())
            found = iter(vectors)
            yield pd.Series([next(found) if row.status == "ok" else None for row in rows])

    # Spark takes the kind of UDF from the hints; as strings they would not resolve in here.
    series = Iterator[pd.Series]
    features.__annotations__ = {"batches": series, "return": series}
    make: Any = pandas_udf  # its overloads know no hints that are set afterwards
    # Spark computes a deterministic function again for each filter on its result.
    return make(features, "array<float>").asNondeterministic()


def _check_bytes(contents: Any) -> None:
    """Refuse a pandas Series of text, which Arrow would take for bytes, or of anything else."""
    wrong = "struct" if contents.ndim > 1 else None
    for content in () if wrong else contents.dropna():
        if not isinstance(content, (bytes, bytearray, memoryview)):
            wrong = type(content).__name__
            break
    if wrong:
        raise EngineError(
            f"featurize_udf takes the bytes of images (binary), and was given {wrong}: for base64, "
            "give unbase64(column); for paths, read images with spark.read.format('binaryFile')"
        )


def feature_rows(images: DataFrame, task: Task, kept: Iterable[StructField] = ()) -> DataFrame:
    """Run a task over images; its rows carry their provenance.

    Args:
        images: columns `path` and `content`, and others of `INPUT_SCHEMA` or `binaryFile`.
        task: what runs.
        kept: fields of the columns that pass through, which the task knows by name.
    """
    from pyspark.sql.pandas.types import from_arrow_schema
    from pyspark.sql.types import LongType

    known = {"path", "label", "content", *_COLUMNS, *_COLUMNS.values()}
    chosen = images.select(
        *(name for name in images.columns if name in known or name.startswith(KEPT_PREFIX))
    )
    schema = from_arrow_schema(FEATURE_SCHEMA)
    for field in kept:
        schema = schema.add(field)
    if task.shows_loads:
        schema = schema.add(LOADS_COLUMN, LongType())
    rows = chosen.mapInArrow(task, schema)
    return rows.withMetadata("features", column_metadata(task.provenance()))


@dataclass(frozen=True, slots=True)
class Task:
    """What runs in Spark's Python workers, pickled by reference.

    Attributes:
        carrier: brings the encoder.
        label: gives labels in place of a column.
        decode: how images become pixels.
        tally: is told, when a task ends, of its rows by status, and of models it loaded.
        shows_loads: whether rows have the column `LOADS_COLUMN`.
        isolated: compute in a child process, one image at a time, so that an image which ends that
            process gets its row.
        image_timeout_s: seconds that one image may take before its process is ended.
        kept: names of columns that pass through.
        stop_file: as soon as this file exists, no further image is begun; None for never.
    """

    carrier: EncoderHandle
    label: LabelRule | None
    decode: DecodeOptions
    tally: Accumulator[Counter[str]] | None = None
    shows_loads: bool = False
    isolated: bool = False
    image_timeout_s: float = math.inf
    kept: tuple[str, ...] = ()
    stop_file: str | None = None

    def provenance(self) -> dict[str, str]:
        """What makes the rows."""
        return {**self.carrier.provenance, **self.decode.provenance()}

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Turn batches of images into batches of rows."""
        if self.stop_file is not None:
            _leave_ctrl_c_to_the_driver()
        waiting: deque[pa.RecordBatch] = deque()  # kept columns, until their rows come back
        inputs = (self._adapt(batch, waiting) for batch in batches)
        first = next(inputs, None)
        if first is None or self._stopped():
            _drain(inputs)
            return  # a task without images needs no network
        images = chain([first], inputs)
        counts: Counter[str] = Counter()
        for rows, loads in self._isolated(images) if self.isolated else self._here(images):
            counts.update(rows["status"].to_pylist(), **{LOADS_COLUMN: loads})
            if self.kept:
                rows = _with_kept(rows, waiting)  # noqa: PLW2901 - the same rows, with more
            yield _with_loads(rows, loads) if self.shows_loads else rows
        _drain(inputs)
        if self.tally is not None:
            self.tally.add(counts)

    def _here(self, images: Iterator[pa.RecordBatch]) -> Iterator[tuple[pa.RecordBatch, int]]:
        """Rows, and models loaded for them, computed in this process."""
        runtime = self.carrier.runtime()
        with end_if_stuck(self.image_timeout_s) as watch:

            def watched() -> Iterator[pa.RecordBatch]:
                for batch in images:
                    watch.busy()
                    yield batch

            for rows in featurize_batches(
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
        """Rows, and models loaded for them, computed in a child process."""
        worker = isolated_worker(
            self.carrier.fingerprint, self.carrier.encoder, self.decode, self.image_timeout_s
        )
        for rows in worker.featurize(takewhile(lambda _: not self._stopped(), images)):
            loads, worker.loads = worker.loads, 0
            yield rows, loads

    def _stopped(self) -> bool:
        return self.stop_file is not None and os.path.exists(self.stop_file)  # noqa: PTH110 - quick

    def _adapt(self, batch: pa.RecordBatch, waiting: deque[pa.RecordBatch]) -> pa.RecordBatch:
        """Bring a batch of `binaryFile`'s columns into the worker's, and put kept ones aside."""
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
    """Paths, with a digest of the bytes in place of each null."""
    named = []
    for path, content in zip(paths.to_pylist(), contents, strict=True):
        buffer = content.as_buffer()
        unknown = "sha256:" + ("unknown" if buffer is None else hashlib.sha256(buffer).hexdigest())
        named.append(unknown if path is None else path)
    return pa.array(named, pa.string())


def _with_kept(rows: pa.RecordBatch, waiting: deque[pa.RecordBatch]) -> pa.RecordBatch:
    """Rows, with the kept columns of as many images from the front of those that wait."""
    taken, missing = [waiting[0].slice(0, 0)], rows.num_rows
    while missing:
        first = waiting.popleft()
        taken.append(first.slice(0, missing))
        if first.num_rows > missing:
            waiting.appendleft(first.slice(missing))
        missing -= taken[-1].num_rows
    kept = pa.concat_batches(taken) if len(taken) > 2 else taken[-1]
    fields = [*rows.schema, *kept.schema]
    return pa.RecordBatch.from_arrays([*rows.columns, *kept.columns], schema=pa.schema(fields))


def _leave_ctrl_c_to_the_driver() -> None:
    """Ignore SIGINT: a terminal sends it to every process of a job."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _drain(batches: Iterator[pa.RecordBatch]) -> None:
    """Take what is left: Spark ends a Python worker that leaves some of its input."""
    deque(batches, maxlen=0)


def _with_loads(rows: pa.RecordBatch, loads: int) -> pa.RecordBatch:
    column = np.zeros(rows.num_rows, np.int64)
    column[:1] = loads
    names = [*rows.schema.names, LOADS_COLUMN]
    return pa.RecordBatch.from_arrays([*rows.columns, pa.array(column)], names)
