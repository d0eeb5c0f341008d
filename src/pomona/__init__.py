"""Pomona turns collections of images into tables of deep features.

    import pomona
    pomona.extract("photos/", "features/")

Names are loaded when you first use them: `import pomona` imports no heavy library, such as Keras,
OpenVINO or PySpark. `__init__.pyi` lists the names and their modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lazy_loader

from pomona._version import __version__ as __version__
from pomona.encoder.embedder import embed_by
from pomona.io.file_systems import reach_hadoop_by

if TYPE_CHECKING:
    from pyarrow.fs import FileSystemHandler

__getattr__, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)

# `from pomona import *` must work without PySpark.
__all__ = [name for name in _names if name != "ImageFeaturizer"]


def _hadoop_handler() -> FileSystemHandler:
    from pomona.spark.storage.hadoop.arrow import HadoopHandler

    return HadoopHandler.of_this_process()


def _embed(images: Any, encoder: Any, **options: Any) -> Any:
    from pomona.embedding import embed

    return embed(images, encoder, **options)


reach_hadoop_by(_hadoop_handler)
embed_by(_embed)
