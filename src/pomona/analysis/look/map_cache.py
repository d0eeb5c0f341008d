"""The maps of tables in Pomona's cache folder, one for each table.

look/<digest of the table's location>/<digest of its state and the method>/*.npy

They are not in the table's folder: it may be read-only, in an object store, or a Delta table.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pomona.analysis.look.placing import Placed, place_table
from pomona.analysis.neighbours.faiss_index import table_state
from pomona.encoder.encoder import canonical_digest
from pomona.io.location import cache_folder
from pomona.progress import Progress, no_progress

if TYPE_CHECKING:
    from pomona.analysis.vectors import Vectors

__all__ = ["open_places"]

_log = logging.getLogger(__name__)

_REVISION = 1  # raise it if the same table gets another map
_NAMES = [field.name for field in fields(Placed)]


def open_places(vectors: Vectors, method: str, progress: Progress = no_progress) -> Placed:
    """Read the map of a table from the cache, or make it and put it there.

    Raises:
        UsageError: `tsne` needs scikit-learn, which is not installed.
    """
    folder = _folder(vectors, method)
    if folder and (found := _read(folder, vectors)):
        return found
    placed = place_table(vectors, method, progress)
    if folder:
        _keep(folder, placed)
    return placed


def _folder(vectors: Vectors, method: str) -> Path | None:
    """Return the folder of a map; None if there is no cache, as for some service accounts."""
    table = vectors.table
    location = str(table) if table.far else str(table.folder.resolve())
    state = [_REVISION, method, table_state(table)]
    with suppress(OSError):
        return cache_folder("look") / canonical_digest(location) / canonical_digest(state)
    return None


def _read(folder: Path, vectors: Vectors) -> Placed | None:
    """Read a map without its codes, which are mapped into memory; None if it is not complete."""
    try:
        placed = Placed(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in _NAMES))
    except (OSError, ValueError):
        return None
    is_whole = len(placed.places) == len(placed.codes) == vectors.rows
    return placed if is_whole and placed.axes.shape[1] == vectors.dimension else None


def _keep(folder: Path, placed: Placed) -> None:
    """Put a map into the cache if possible, in place of the table's earlier ones."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=folder.parent))
        for name in _NAMES:
            np.save(draft / f"{name}.npy", getattr(placed, name))
        for earlier in folder.parent.iterdir():
            if earlier != draft:
                shutil.rmtree(earlier, ignore_errors=True)
        draft.rename(folder)
    except OSError as error:
        _log.info("cannot cache the map for the next time: %s", error)
