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
    from pomona.building.build import build_encoder
    from pomona.building.settings import NetworkSettings
    from pomona.encoder.blob import Encoder
    from pomona.engines.dataframe import featurize, featurize_udf
    from pomona.engines.job import Summary
    from pomona.extraction import extract
    from pomona.table import FeatureTable
    from pomona.worker import DecodeOptions

__all__ = [
    "DecodeOptions",
    "Encoder",
    "FeatureTable",
    "NetworkSettings",
    "Summary",
    "__version__",
    "build_encoder",
    "extract",
    "featurize",
    "featurize_udf",
]

_HOMES = {
    "DecodeOptions": "pomona.worker",
    "Encoder": "pomona.encoder.blob",
    "FeatureTable": "pomona.table",
    "NetworkSettings": "pomona.building.settings",
    "Summary": "pomona.engines.job",
    "build_encoder": "pomona.building.build",
    "extract": "pomona.extraction",
    "featurize": "pomona.engines.dataframe",
    "featurize_udf": "pomona.engines.dataframe",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pomona' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
