"""The index file of a table: read if it is current, built again if the table has changed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from pomona.analysis.neighbours.faiss_index import NearestIndex, table_state
from pomona.errors import UsageError
from pomona.progress import Progress, no_progress
from pomona.table.feature_table import check_output

if TYPE_CHECKING:
    from pomona.analysis.vectors import Vectors

__all__ = ["open_index"]

_log = logging.getLogger(__name__)


def open_index(file: Path, vectors: Vectors, progress: Progress = no_progress) -> NearestIndex:
    """Read the index of a table; build it if it does not exist or if the table has changed.

    Raises:
        UsageError: the file is not an index, belongs to a table of another encoder, or cannot be
            written.
    """
    fingerprint = vectors.provenance["fingerprint"]
    if file.exists():
        index = NearestIndex.load(file)
        if index.about.table_state == table_state(vectors.table):
            _log.info("%s: %s", file, index.about)
            return index
        if index.about.fingerprint != fingerprint:
            raise UsageError(
                f"{file} is the index of a table of another encoder: give another file, or "
                "delete it"
            )
        _log.info("%s: the table has changed since the index was built: building it again", file)
    check_output(file)
    index = NearestIndex.build(vectors, progress)
    index.save(file)
    _log.info("%s: %s", file, index.about)
    return index
