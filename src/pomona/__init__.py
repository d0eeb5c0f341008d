"""Pomona turns trees of images into tables of deep features.

    import pomona
    pomona.extract("photos/", "features/")

Names are loaded when they are first used: `import pomona` costs nothing and imports neither Keras,
OpenVINO nor PySpark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pomona._version import __version__

if TYPE_CHECKING:
    from pomona import spark
    from pomona.analysis.classifier import Classifier
    from pomona.analysis.features import Features, read_features
    from pomona.analysis.training import train
    from pomona.analysis.vectors import open_vectors
    from pomona.building.build import build_encoder
    from pomona.building.precision import lower_precision
    from pomona.building.settings import NetworkSettings
    from pomona.classification import classify
    from pomona.encoder.blob import Encoder
    from pomona.encoder.drawn_warning import DrawnWeightsWarning
    from pomona.engines.dataframe import featurize, featurize_udf
    from pomona.engines.job import Summary
    from pomona.extraction import extract
    from pomona.prepare import DecodeOptions
    from pomona.table import FeatureTable
    from pomona.transformer import ImageFeaturizer as ImageFeaturizer

__all__ = [
    "Classifier",
    "DecodeOptions",
    "DrawnWeightsWarning",
    "Encoder",
    "FeatureTable",
    "Features",
    "NetworkSettings",
    "Summary",
    "__version__",
    "build_encoder",
    "classify",
    "extract",
    "featurize",
    "featurize_udf",
    "lower_precision",
    "open_vectors",
    "read_features",
    "spark",
    "train",
]

_HOMES = {
    "Classifier": "pomona.analysis.classifier",
    "DecodeOptions": "pomona.worker",
    "DrawnWeightsWarning": "pomona.encoder.drawn_warning",
    "Encoder": "pomona.encoder.blob",
    "FeatureTable": "pomona.table",
    "Features": "pomona.analysis.features",
    "ImageFeaturizer": "pomona.transformer",
    "NetworkSettings": "pomona.building.settings",
    "Summary": "pomona.engines.job",
    "build_encoder": "pomona.building.build",
    "classify": "pomona.classification",
    "extract": "pomona.extraction",
    "featurize": "pomona.engines.dataframe",
    "featurize_udf": "pomona.engines.dataframe",
    "lower_precision": "pomona.building.precision",
    "open_vectors": "pomona.analysis.vectors",
    "read_features": "pomona.analysis.features",
    "train": "pomona.analysis.training",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "spark":
        return import_module("pomona.spark")
    if name not in _HOMES:
        raise AttributeError(f"module 'pomona' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "ImageFeaturizer"]  # which is none of `import *`: it needs PySpark
