"""The Spark engine, and feature tables as Spark DataFrames: `pomona.spark.read_features`."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)

# `from pomona.spark import *` must work without PySpark.
__all__ = [name for name in _names if name != "ImageFeaturizer"]
