"""The Spark engine, and feature tables as Spark DataFrames: `pomona.spark.read_features`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pomona.spark.dataframe.featurize import featurize, featurize_udf
    from pomona.spark.dataframe.transformer import ImageFeaturizer as ImageFeaturizer
    from pomona.spark.features import one_encoder, provenance, read_features

__all__ = ["featurize", "featurize_udf", "one_encoder", "provenance", "read_features"]

_HOMES = {
    "ImageFeaturizer": "pomona.spark.dataframe.transformer",
    "featurize": "pomona.spark.dataframe.featurize",
    "featurize_udf": "pomona.spark.dataframe.featurize",
    "one_encoder": "pomona.spark.features",
    "provenance": "pomona.spark.features",
    "read_features": "pomona.spark.features",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'pomona.spark' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "ImageFeaturizer"]  # not part of `import *`: it needs PySpark
