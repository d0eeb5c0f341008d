"""DataFrames of images: `featurize` and `featurize_udf`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from pomona.encoder.encoder import Encoder
from pomona.encoder.endpoint import Endpoint
from pomona.errors import EngineError
from pomona.job.options import Delivery
from pomona.schema import ENCODER_COLUMN, FEATURE_SCHEMA, encoder_value
from pomona.source.labels import parse_label_rule
from pomona.spark.dataframe.columns import select_images
from pomona.spark.dataframe.task import Task, feature_rows
from pomona.spark.dataframe.udf import image_udf
from pomona.spark.encoder_transport import encoder_handle, open_encoder
from pomona.spark.session.session import active_session, functions_of
from pomona.worker.prepare import EXACT, DecodeOptions

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from pomona.source.labels import LabelRule

__all__ = ["featurize", "featurize_udf"]


def featurize(  # noqa: PLR0913 - settings, each with a sensible default
    images: DataFrame,
    encoder: Encoder | Endpoint | str | os.PathLike[str],
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
        encoder: an encoder, its path or URI, the name or the file of a network, or an `Endpoint`.
        image_column: the column with the bytes of the images, binary.
        path_column: the column with the URI or the key of each image, string or integer. If it is
            null, the path of the row is `sha256:` and the digest of its bytes.
        label_column: the column with the labels; by default `label` if there is one.
        keep: names of columns to append to the rows, or `all` for all except the images' bytes.
        label: a rule that makes labels from paths, as in `extract`, in place of a column.
        decode: how images become pixels.
        delivery: `broadcast` sends the encoder to the workers; with `file` each worker process
            reads it. The default is `file` for a URI of another file system.
        isolated: compute in a child process of each worker, one image at a time. An image that
            crashes it gets the status `crashed` and does not end the query.
        image_timeout_s: seconds that one image may take before its process is killed.

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
    handle = encoder_handle(images.sparkSession, *open_encoder(encoder, delivery))
    names = tuple(field.name for field in kept)
    task = Task(
        handle, rule, decode, kept=names, isolated=isolated, image_timeout_s=image_timeout_s
    )
    functions = functions_of(images.sparkSession)
    maker = functions.lit(encoder_value(task.provenance())).alias(ENCODER_COLUMN)
    rows = feature_rows(chosen, task, kept)
    return rows.select(
        *FEATURE_SCHEMA.names, maker, *(functions.col(f"`{name}`") for name in names)
    )


def featurize_udf(
    encoder: Encoder | Endpoint | str | os.PathLike[str],
    spark: SparkSession | None = None,
    *,
    delivery: Delivery | None = None,
) -> Any:
    """Return a Scalar-Iterator pandas UDF from image bytes to `array<float>`.

        features = featurize_udf(encoder)
        images.select("path", "label", features("content").alias("features"))
        spark.udf.register("featurize", features)

    An image that cannot be decoded has a null. Spark computes each image once in a query, even if
    a filter follows: the function is marked nondeterministic, so Spark refuses it in a join
    condition and inside an aggregate.

    Args:
        encoder: an encoder, its path or URI, the name or the file of a network, or an `Endpoint`.
        spark: the session; by default the active one, whichever thread started it.
        delivery: `broadcast` or `file`, as for `featurize`.

    Raises:
        EncoderError: the encoder cannot be read.
        EngineError: no session is active.
    """
    import pandas as pd

    spark = spark or active_session()
    if spark is None:
        raise EngineError("featurize_udf needs a Spark session: start one, or pass spark=")
    handle = encoder_handle(spark, *open_encoder(encoder, delivery))
    return image_udf(handle, lambda _, vectors: pd.Series(vectors), pd.Series, "array<float>")
