"""Pomona turns collections of images into tables of deep features.

    import pomona
    pomona.extract("photos/", "features/")

Names are loaded when you first use them: `import pomona` imports no heavy library, such as Keras,
OpenVINO or PySpark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pomona._version import __version__
from pomona.io.file_systems import reach_hadoop_by

if TYPE_CHECKING:
    from pyarrow.fs import FileSystemHandler

    from pomona import spark
    from pomona.analysis.classifier.classifier import Classifier
    from pomona.analysis.classifier.training import train
    from pomona.analysis.features import Features, read_features
    from pomona.analysis.vectors import open_vectors
    from pomona.building.build import build_encoder
    from pomona.building.network_settings import NetworkSettings
    from pomona.building.quantize.precision import lower_precision
    from pomona.classification import classify
    from pomona.embedding import embed
    from pomona.encoder.drawn_warning import DrawnWeightsWarning
    from pomona.encoder.encoder import Encoder
    from pomona.extraction import extract
    from pomona.job.job import Summary
    from pomona.spark.dataframe.featurize import featurize, featurize_udf
    from pomona.spark.dataframe.transformer import ImageFeaturizer as ImageFeaturizer
    from pomona.table.feature_table import FeatureTable
    from pomona.worker.prepare import DecodeOptions

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
    "embed",
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
    "Classifier": "pomona.analysis.classifier.classifier",
    "DecodeOptions": "pomona.worker.featurize",
    "DrawnWeightsWarning": "pomona.encoder.drawn_warning",
    "Encoder": "pomona.encoder.encoder",
    "FeatureTable": "pomona.table.feature_table",
    "Features": "pomona.analysis.features",
    "ImageFeaturizer": "pomona.spark.dataframe.transformer",
    "NetworkSettings": "pomona.building.network_settings",
    "Summary": "pomona.job.job",
    "build_encoder": "pomona.building.build",
    "classify": "pomona.classification",
    "embed": "pomona.embedding",
    "extract": "pomona.extraction",
    "featurize": "pomona.spark.dataframe.featurize",
    "featurize_udf": "pomona.spark.dataframe.featurize",
    "lower_precision": "pomona.building.quantize.precision",
    "open_vectors": "pomona.analysis.vectors",
    "read_features": "pomona.analysis.features",
    "train": "pomona.analysis.classifier.training",
}


def _hadoop_handler() -> FileSystemHandler:
    from pomona.spark.storage.hadoop.arrow import HadoopHandler

    return HadoopHandler.of_this_process()


reach_hadoop_by(_hadoop_handler)


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
