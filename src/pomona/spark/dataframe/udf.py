"""A pandas UDF over the bytes of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pomona.errors import EngineError
from pomona.spark.encoder_transport import EncoderHandle, task_cpus
from pomona.worker.featurize import encode_images
from pomona.worker.prepare import EXACT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.worker.prepare import Row

__all__ = ["image_udf"]

Vectors = list["NDArray[Any] | None"]


def image_udf(
    handle: EncoderHandle, result: Callable[[Sequence[Row], Vectors], Any], hint: type, returns: str
) -> Any:
    """Return a Scalar-Iterator pandas UDF, whose argument is a binary column of images.

    Spark computes a deterministic function again for each filter on its result, and for each field
    taken out of it. Therefore the function is marked nondeterministic: Spark refuses it in a join
    condition and inside an aggregate.

    Args:
        handle: how workers get the encoder.
        result: makes the output of a batch from the rows of its images, and their vectors. The
            vector of an image that cannot be decoded is None.
        hint: the type of that output, `pandas.Series` or `pandas.DataFrame`.
        returns: the type of the column in SQL.
    """
    import pandas as pd
    from pyspark.sql.pandas.functions import pandas_udf

    def features(batches: Any) -> Any:
        runtime = handle.runtime()
        for contents in batches:
            _check_bytes(contents)
            array = pa.array(contents, pa.large_binary(), from_pandas=True)
            rows, vectors = encode_images(array, None, runtime, EXACT, task_cpus())
            each = iter(vectors)
            yield result(rows, [next(each) if row.status == "ok" else None for row in rows])

    # Spark takes the kind of UDF from the hints. As strings they would not resolve here.
    features.__annotations__ = {"batches": Iterator[pd.Series], "return": Iterator[hint]}  # type: ignore[valid-type]
    make: Any = pandas_udf  # its overloads do not cover hints that are set afterwards
    return make(features, returns).asNondeterministic()


def _check_bytes(contents: Any) -> None:
    """Refuse a pandas Series of text, which Arrow would accept as bytes, or of anything else."""
    wrong = "struct" if contents.ndim > 1 else None
    for content in () if wrong else contents.dropna():
        if not isinstance(content, (bytes, bytearray, memoryview)):
            wrong = type(content).__name__
            break
    if wrong:
        raise EngineError(
            f"featurize_udf takes the bytes of images (binary), got {wrong}: for base64, "
            "give unbase64(column); for paths, read images with spark.read.format('binaryFile')"
        )
