"""DataFrames of images: `featurize`, `featurize_udf`, and the task that runs in Spark's workers."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pomona.encoder.blob import Encoder
from pomona.engines.carrier import Carrier, Delivery, carry, open_encoder
from pomona.engines.isolation import end_if_stuck, isolated_worker
from pomona.errors import EngineError
from pomona.labels import parse_label_rule
from pomona.prepare import EXACT, DecodeOptions
from pomona.runtime import loads_since
from pomona.schema import INPUT_SCHEMA, SPARK_SCHEMA, column_metadata
from pomona.worker import encode_images
from pomona.worker import featurize as featurize_batches

if TYPE_CHECKING:
    from pyspark import Accumulator
    from pyspark.sql import DataFrame, SparkSession

    from pomona.labels import LabelRule

__all__ = ["LOADS_COLUMN", "Task", "feature_rows", "featurize", "featurize_udf"]

LOADS_COLUMN = "model_loads"
"""Where a task shows, in the first row of a batch, how many models it has loaded since the last."""

_COLUMNS = {"size": "length", "modified": "modificationTime"}  # ours: binaryFile's


def featurize(  # noqa: PLR0913 - settings, each with a sensible default
    images: DataFrame,
    encoder: Encoder | str | os.PathLike[str],
    *,
    label: LabelRule | str | None = None,
    decode: DecodeOptions = EXACT,
    delivery: Delivery | None = None,
    isolated: bool = False,
    image_timeout_s: float = math.inf,
) -> DataFrame:
    """Turn a DataFrame of images into rows of the feature table, lazily.

    Args:
        images: columns `path` string and `content` binary, as `binaryFile` gives; `label`,
            `length` or `size`, and `modificationTime` or `modified` are kept where present.
        encoder: what turns images into vectors, or its path or URI.
        label: gives labels in place of a column `label`: a rule, or what `extract` takes.
        decode: how images become pixels.
        delivery: `broadcast` to send the encoder to the workers, `file` to have each of their
            processes read it; by default `file` for a URI of another file system.
        isolated: let each worker compute in a child process, one image at a time: an image that
            ends it gets the status `crashed`, where it would end the query.
        image_timeout_s: seconds that one image may take before its process is ended.

    Returns:
        One row for each image, the columns of the feature table, with provenance on `features`.

    Raises:
        EncoderError: the encoder cannot be read.
        EngineError: a column is missing.
    """
    loaded, location = open_encoder(encoder, delivery)
    carrier = carry(images.sparkSession, loaded, location)
    rule = parse_label_rule(label) if isinstance(label, str) else label
    task = Task(carrier, rule, decode, isolated=isolated, image_timeout_s=image_timeout_s)
    return feature_rows(images, task)


def featurize_udf(
    encoder: Encoder | str | os.PathLike[str],
    spark: SparkSession | None = None,
    *,
    delivery: Delivery | None = None,
) -> Any:
    """Make a Scalar-Iterator pandas UDF: bytes of an image to `array<float>`, null if unreadable.

        features = featurize_udf(encoder)
        images.select("path", "label", features("content").alias("features"))
        spark.udf.register("featurize", features)

    Args:
        encoder: what turns images into vectors, or its path or URI.
        spark: the session; by default the active one.
        delivery: as in `featurize`.

    Raises:
        EncoderError: the encoder cannot be read.
        EngineError: no session is active.
    """
    import pandas as pd
    from pyspark.sql import SparkSession as Session
    from pyspark.sql.pandas.functions import pandas_udf

    spark = spark or Session.getActiveSession()
    if spark is None:
        raise EngineError("featurize_udf needs a Spark session: start one, or pass spark=")
    loaded, location = open_encoder(encoder, delivery)
    carrier = carry(spark, loaded, location)

    def features(batches: Any) -> Any:
        runtime = carrier.runtime()
        for contents in batches:
            array = pa.array(contents, pa.large_binary(), from_pandas=True)
            rows, vectors = encode_images(array, None, runtime, EXACT)
            found = iter(vectors)
            yield pd.Series([next(found) if row.status == "ok" else None for row in rows])

    # Spark takes the kind of UDF from the hints; as strings they would not resolve in here.
    series = Iterator[pd.Series]
    features.__annotations__ = {"batches": series, "return": series}
    make: Any = pandas_udf  # its overloads know no hints that are set afterwards
    return make(features, "array<float>")


def feature_rows(images: DataFrame, task: Task) -> DataFrame:
    """Run a task over images; its rows carry their provenance.

    Raises:
        EngineError: a column is missing.
    """
    for needed in ("path", "content"):
        if needed not in images.columns:
            raise EngineError(
                f"featurize needs columns path and content; this DataFrame has "
                f"{', '.join(images.columns)}"
            )
    kept = {"path", "label", "content", *_COLUMNS, *_COLUMNS.values()}
    chosen = images.select(*(name for name in images.columns if name in kept))
    more = f", {LOADS_COLUMN} bigint" if task.shows_loads else ""
    rows = chosen.mapInArrow(task, SPARK_SCHEMA + more)
    provenance = {**task.carrier.provenance, **task.decode.provenance()}
    return rows.withMetadata("features", column_metadata(provenance))


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
    """

    carrier: Carrier
    label: LabelRule | None
    decode: DecodeOptions
    tally: Accumulator[Counter[str]] | None = None
    shows_loads: bool = False
    isolated: bool = False
    image_timeout_s: float = math.inf

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Turn batches of images into batches of rows."""
        inputs = (self._adapt(batch) for batch in batches)
        first = next(inputs, None)
        if first is None:
            return  # a task without images needs no network
        images = chain([first], inputs)
        counts: Counter[str] = Counter()
        for rows, loads in self._isolated(images) if self.isolated else self._here(images):
            counts.update(rows["status"].to_pylist(), **{LOADS_COLUMN: loads})
            yield _with_loads(rows, loads) if self.shows_loads else rows
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
                watched(), runtime, self.decode, on_image=lambda _: watch.busy()
            ):
                watch.idle()
                yield rows, loads_since() if rows.num_rows else 0

    def _isolated(self, images: Iterator[pa.RecordBatch]) -> Iterator[tuple[pa.RecordBatch, int]]:
        """Rows, and models loaded for them, computed in a child process."""
        worker = isolated_worker(
            self.carrier.fingerprint, self.carrier.encoder, self.decode, self.image_timeout_s
        )
        for rows in worker.featurize(images):
            loads, worker.loads = worker.loads, 0
            yield rows, loads

    def _adapt(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Bring a batch of `binaryFile`'s columns into the worker's."""
        columns = []
        for field in INPUT_SCHEMA:
            name = field.name
            if name == "label" and self.label is not None:
                column = pa.array(map(self.label, batch["path"].to_pylist()), field.type)
            elif name in batch.schema.names:
                column = batch[name]
            elif _COLUMNS.get(name) in batch.schema.names:
                column = batch[_COLUMNS[name]]
            else:
                column = pa.nulls(batch.num_rows, field.type)
            # Contents keep their own type: a cast would copy every image.
            columns.append(column if name == "content" else column.cast(field.type))
        return pa.RecordBatch.from_arrays(columns, names=INPUT_SCHEMA.names)


def _with_loads(rows: pa.RecordBatch, loads: int) -> pa.RecordBatch:
    column = np.zeros(rows.num_rows, np.int64)
    column[:1] = loads
    names = [*rows.schema.names, LOADS_COLUMN]
    return pa.RecordBatch.from_arrays([*rows.columns, pa.array(column)], names)
