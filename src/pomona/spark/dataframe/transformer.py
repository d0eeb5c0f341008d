"""The encoder as a stage of a Spark ML pipeline."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pomona.building.build import encoder_for
from pomona.encoder.encoder import Encoder
from pomona.encoder.endpoint import Endpoint
from pomona.errors import EncoderError, EngineError
from pomona.schema import column_metadata, encoder_value
from pomona.spark.dataframe.udf import Vectors, image_udf
from pomona.spark.encoder_transport import EncoderHandle, encoder_handle
from pomona.spark.session.session import check_spark

check_spark(None, None)  # its error says what to install

import pyspark  # noqa: E402
from pyspark import keyword_only  # noqa: E402
from pyspark.ml import Transformer  # noqa: E402
from pyspark.ml.param import Param, Params, TypeConverters  # noqa: E402
from pyspark.ml.param.shared import HasHandleInvalid, HasInputCol, HasOutputCol  # noqa: E402
from pyspark.ml.util import (  # noqa: E402
    DefaultParamsReader,
    DefaultParamsWriter,
    MLReadable,
    MLReader,
    MLWritable,
    MLWriter,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from pomona.worker.prepare import Row

__all__ = ["ImageFeaturizer"]

_INVALID = ("keep", "skip", "error")


def _loaded(value: Encoder | Endpoint | str | os.PathLike[str]) -> Encoder:
    if isinstance(value, Encoder | Endpoint):
        return encoder_for(value)
    if isinstance(value, str | Path):
        return Encoder.load(value)
    raise TypeError(
        f"encoder is a {type(value).__name__}, expected an Encoder, an Endpoint or a path"
    )


def _one_of(value: Any) -> str:
    if value not in _INVALID:
        raise TypeError(f"handleInvalid is {value!r}, expected one of {', '.join(_INVALID)}")
    return str(value)


class ImageFeaturizer(
    Transformer, HasInputCol, HasOutputCol, HasHandleInvalid, MLWritable, MLReadable[Any]
):
    """A Spark ML Transformer from a column of image bytes to a column of vectors.

        featurizer = ImageFeaturizer(encoder=encoder, vectorOutput=True, handleInvalid="skip")
        Pipeline(stages=[featurizer, StringIndexer(...), LogisticRegression(regParam=0.01)])

    All other columns stay. A pipeline saves the encoder with it.

    Args:
        inputCol: column of image bytes, binary; by default `content`.
        outputCol: column of vectors; by default `features`. Its metadata is the provenance.
        encoder: a `pomona.Encoder`, the path or URI of its file, or a `pomona.Endpoint`, in whose
            place a saved pipeline has the encoder.
        vectorOutput: True for dense ML Vectors of float64, False for `array<float>`.
        errorCol: column for the reason why an image has no vector, else null. By default there is
            no such column.
        encoderCol: column for the provenance of each row, as `encoder` of `featurize`: unions and
            some table formats lose the metadata. The default is outputCol followed by
            `_encoder`; '' means no column.
        handleInvalid: an image that cannot be decoded has a null (`keep`, the default), is dropped
            (`skip`), or ends the query (`error`). Spark ML estimators accept no nulls.
    """

    encoder: Param[Encoder] = Param(Params._dummy(), "encoder", "the encoder", _loaded)
    vectorOutput: Param[bool] = Param(  # noqa: N815 - Params are named as Spark's are
        Params._dummy(),
        "vectorOutput",
        "ML Vectors in place of array<float>",
        TypeConverters.toBoolean,
    )
    errorCol: Param[str] = Param(  # noqa: N815
        Params._dummy(),
        "errorCol",
        "name of the column for the error of an image; '' for none",
        TypeConverters.toString,
    )
    encoderCol: Param[str] = Param(  # noqa: N815
        Params._dummy(),
        "encoderCol",
        "name of the column for the provenance; by default outputCol + '_encoder', '' for none",
        TypeConverters.toString,
    )
    handleInvalid: Param[str] = Param(  # noqa: N815
        Params._dummy(),
        "handleInvalid",
        "images that cannot be decoded: keep (null), skip (no row) or error",
        _one_of,
    )

    @keyword_only
    def __init__(  # noqa: PLR0913 - Spark's way to set Params
        self,
        *,
        inputCol: str = "content",  # noqa: ARG002, N803 - keyword_only keeps them
        outputCol: str = "features",  # noqa: ARG002, N803
        encoder: Encoder | Endpoint | str | os.PathLike[str] | None = None,  # noqa: ARG002
        vectorOutput: bool = False,  # noqa: ARG002, N803
        errorCol: str = "",  # noqa: ARG002, N803
        encoderCol: str | None = None,  # noqa: ARG002, N803
        handleInvalid: str = "keep",  # noqa: ARG002, N803
    ) -> None:
        super().__init__()
        self._setDefault(
            inputCol="content",
            outputCol="features",
            vectorOutput=False,
            errorCol="",
            handleInvalid="keep",
        )
        self._sent: tuple[Any, Encoder, EncoderHandle] | None = None
        self._set(**self._input_kwargs)  # type: ignore[attr-defined]

    @keyword_only
    def setParams(  # noqa: N802, PLR0913
        self,
        *,
        inputCol: str = "content",  # noqa: ARG002, N803
        outputCol: str = "features",  # noqa: ARG002, N803
        encoder: Encoder | Endpoint | str | os.PathLike[str] | None = None,  # noqa: ARG002
        vectorOutput: bool = False,  # noqa: ARG002, N803
        errorCol: str = "",  # noqa: ARG002, N803
        encoderCol: str | None = None,  # noqa: ARG002, N803
        handleInvalid: str = "keep",  # noqa: ARG002, N803
    ) -> Self:
        """Set several Params."""
        self._set(**self._input_kwargs)  # type: ignore[attr-defined]
        return self

    def setInputCol(self, value: str) -> Self:  # noqa: N802
        """Set the name of the column of bytes."""
        return self._set(inputCol=value)

    def setOutputCol(self, value: str) -> Self:  # noqa: N802
        """Set the name of the column of vectors."""
        return self._set(outputCol=value)

    def setEncoder(self, value: Encoder | Endpoint | str | os.PathLike[str]) -> Self:  # noqa: N802
        """Set the encoder."""
        return self._set(encoder=value)

    def setVectorOutput(self, value: bool) -> Self:  # noqa: N802
        """Set whether vectors are ML Vectors."""
        return self._set(vectorOutput=value)

    def setErrorCol(self, value: str) -> Self:  # noqa: N802
        """Set the name of the column of reasons."""
        return self._set(errorCol=value)

    def setEncoderCol(self, value: str) -> Self:  # noqa: N802
        """Set the name of the column of provenances."""
        return self._set(encoderCol=value)

    def setHandleInvalid(self, value: str) -> Self:  # noqa: N802
        """Set what happens to images that cannot be decoded."""
        return self._set(handleInvalid=value)

    def getEncoder(self) -> Encoder:  # noqa: N802
        """Return the encoder.

        Raises:
            EncoderError: no encoder was set.
        """
        if not self.isSet(self.encoder):
            raise EncoderError(
                "ImageFeaturizer has no encoder: pass encoder=, an encoder of pomona.build_encoder "
                "or the path of its file"
            )
        return self.getOrDefault(self.encoder)

    def getVectorOutput(self) -> bool:  # noqa: N802
        """Return whether vectors are ML Vectors."""
        return self.getOrDefault(self.vectorOutput)

    def getErrorCol(self) -> str:  # noqa: N802
        """Return the name of the column of reasons; empty for none."""
        return self.getOrDefault(self.errorCol)

    def getEncoderCol(self) -> str:  # noqa: N802
        """Return the name of the column of provenances; empty for none."""
        if self.isSet(self.encoderCol):
            return self.getOrDefault(self.encoderCol)
        return f"{self.getOutputCol()}_encoder"

    def write(self) -> MLWriter:
        """Return a writer that saves it with its encoder."""
        return _Writer(self)

    @classmethod
    def read(cls) -> MLReader[Any]:
        """Return a reader that loads it."""
        return _Reader()

    def _transform(self, dataset: DataFrame) -> DataFrame:
        from pyspark.ml.functions import array_to_vector
        from pyspark.sql.functions import col, lit, when

        encoder = self.getEncoder()
        output, error, invalid = self.getOutputCol(), self.getErrorCol(), self.getHandleInvalid()
        self._check_columns(dataset)
        found = f"{self.uid}_found"
        udf = _udf(self._handle(dataset.sparkSession, encoder), fails=invalid == "error")
        rows = dataset.withColumn(found, udf(col(self.getInputCol())))
        vectors, missing = col(f"{found}.features"), col(f"{found}.features").isNull()
        if self.getVectorOutput():
            vectors = when(~missing, array_to_vector(vectors))
        rows = rows.withColumn(output, vectors)
        if error:
            rows = rows.withColumn(error, col(f"{found}.error"))
        if invalid == "skip":
            rows = rows.where(~missing)
        provenance = {**encoder.provenance(), "decode": "exact"}
        if maker := self.getEncoderCol():
            rows = rows.withColumn(maker, lit(encoder_value(provenance)))
        metadata: dict[str, Any] = dict(column_metadata(provenance))
        # Stages of Spark ML look here for a vector's length before they read a row for it.
        metadata["ml_attr"] = {"num_attrs": encoder.dimension}
        return rows.drop(found).withMetadata(output, metadata)

    def _check_columns(self, dataset: DataFrame) -> None:
        name = self.getInputCol()
        if name not in dataset.columns:
            raise EngineError(
                f"ImageFeaturizer has inputCol {name!r}; this DataFrame has the columns "
                f"{', '.join(dataset.columns)}"
            )
        kind = dataset.schema[name].dataType.simpleString()
        if kind != "binary":
            raise EngineError(
                f"ImageFeaturizer takes bytes of images, and column {name!r} is of type {kind}: "
                "read them with spark.read.format('binaryFile')"
            )
        named: dict[str, str] = {}
        for parameter in ("outputCol", "errorCol", "encoderCol"):
            new = getattr(self, f"get{parameter[0].upper()}{parameter[1:]}")()
            if new and new in named:
                raise EngineError(
                    f"ImageFeaturizer has {new!r} for {named[new]} and {parameter}: give two names"
                )
            if new and new in dataset.columns:
                raise EngineError(
                    f"ImageFeaturizer would add a column {new!r}, which the DataFrame already has: "
                    f"give another {parameter}, or drop the column"
                )
            named[new] = parameter

    def _handle(self, spark: SparkSession, encoder: Encoder) -> EncoderHandle:
        """Send the encoder once, even if `transform` is called more often."""
        if self._sent is None or self._sent[0] is not spark or self._sent[1] is not encoder:
            self._sent = (spark, encoder, encoder_handle(spark, encoder, None))
        return self._sent[2]


class _Writer(MLWriter):
    """Saves the Params as stages of Spark do, and the encoder in a folder next to them."""

    def __init__(self, instance: ImageFeaturizer) -> None:
        super().__init__()
        self._instance = instance

    def saveImpl(self, path: str) -> None:  # noqa: N802 - Spark's name
        instance = self._instance
        blob = bytearray(instance.getEncoder().to_bytes())
        params = {
            param.name: value
            for param, value in instance._paramMap.items()
            if param.name != "encoder"
        }
        spark = self.sparkSession
        DefaultParamsWriter.saveMetadata(instance, path, _context(spark), paramMap=params)
        frame = spark.createDataFrame([(blob,)], "encoder binary").coalesce(1)
        frame.write.parquet(_encoder_folder(path))


class _Reader(MLReader[ImageFeaturizer]):
    def load(self, path: str) -> ImageFeaturizer:
        spark = self.sparkSession
        metadata = DefaultParamsReader.loadMetadata(path, _context(spark))
        instance = ImageFeaturizer()
        instance._resetUid(metadata["uid"])
        DefaultParamsReader.getAndSetParams(instance, metadata)
        row = spark.read.parquet(_encoder_folder(path)).first()
        if row is None:
            raise EncoderError(f"{path} has no encoder: save the ImageFeaturizer again")
        return instance.setEncoder(Encoder.from_bytes(bytes(row["encoder"]), path))


def _context(spark: SparkSession) -> Any:
    """Return the argument of PySpark's metadata functions: a SparkContext before PySpark 4."""
    return spark.sparkContext if pyspark.__version__.startswith("3.") else spark


def _encoder_folder(path: str) -> str:
    return f"{path.rstrip('/')}/encoder"


def _udf(handle: EncoderHandle, *, fails: bool) -> Any:
    """Return a pandas UDF from bytes to a vector, or the reason why there is none."""
    import pandas as pd

    def found(rows: Sequence[Row], vectors: Vectors) -> Any:
        if fails and (bad := [row for row in rows if row.status != "ok"]):
            raise EngineError(
                f"an image is {bad[0].status} ({bad[0].error}), and handleInvalid is 'error': use "
                "'keep' or 'skip' to continue"
            )
        errors = [row.error and f"{row.status}: {row.error}" for row in rows]
        return pd.DataFrame({"features": vectors, "error": errors})

    return image_udf(handle, found, pd.DataFrame, "features array<float>, error string")
