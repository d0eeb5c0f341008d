"""Projection of a feature table: a new table with the vectors' principal components."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pomona.analysis.pca import Projection, fit_projection
from pomona.analysis.vectors import open_vectors
from pomona.errors import TableError
from pomona.progress import Progress, Snapshot, no_progress
from pomona.schema import schema_with_provenance
from pomona.table.feature_table import FeatureTable
from pomona.table.part_file import PartWriter, part_name
from pomona.table.writer import writing

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MAP_POINTS", "MapPoints", "Projected", "check_target", "project"]

_PART_ROWS = 250_000
MAP_POINTS = 20_000


@dataclass(slots=True)
class MapPoints:
    """The points of a map: places along the first two components, and labels.

    Attributes:
        of: number of rows with a vector. A map shows at most 20,000 of them, evenly spread.
        places: arrays of (B, 2) float32.
        labels: of the same rows.
    """

    of: int
    places: list[NDArray[np.float32]] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    _seen: int = 0

    def take(self, batch: pa.RecordBatch) -> None:
        """Add some of the rows of a batch that have a vector."""
        ok = batch.filter(batch["features"].is_valid())
        every = max(1, -(-self.of // MAP_POINTS))
        chosen = np.arange(-self._seen % every, ok.num_rows, every)
        self._seen += ok.num_rows
        if len(chosen):
            rows = ok.take(pa.array(chosen))
            vectors = rows["features"].flatten().to_numpy().reshape(len(chosen), -1)
            self.places.append(vectors[:, :2])
            self.labels += rows["label"].to_pylist()


@dataclass(frozen=True, slots=True)
class Projected:
    """The result of `project`.

    Attributes:
        table: path of the new table.
        projection: the PCA.
        rows: number of rows of the new table.
        fingerprint: of the new table.
        points: of a map of the new table.
    """

    table: str
    projection: Projection
    rows: int
    fingerprint: str
    points: MapPoints = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return the object that `pomona project --json` prints."""
        return {
            "table": self.table,
            "rows": self.rows,
            "vectors": self.projection.rows,
            "dimension": len(self.projection.components),
            "of_dimension": len(self.projection.mean),
            "method": self.projection.method,
            "explained_variance": round(float(self.projection.explained.sum()), 6),
            "explained_variance_by_component": [
                round(float(share), 6) for share in self.projection.explained
            ],
            "fingerprint": self.fingerprint,
        }


def project(
    table: FeatureTable | str | os.PathLike[str],
    target: FeatureTable | str | os.PathLike[str],
    k: int,
    *,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Projected:
    """Write a new table with the vectors of another, projected onto their principal components.

        pomona.project("features/", "features-pca64/", 64)

    All rows and columns are kept; only `features` differs.

    Args:
        table: a feature table, or its path.
        target: the new table, or its path.
        k: components to keep: the length of the new vectors.
        overwrite: replace the new table if it exists.
        progress: called with the progress.

    Raises:
        TableError: the source is not a feature table, or the target cannot be written.
        UsageError: k is too large for the vectors, or they are too long or all equal.
    """
    source, target = FeatureTable.of(table), FeatureTable.of(target)
    vectors = open_vectors(source)
    check_target(source, target, overwrite=overwrite)
    projection = fit_projection(vectors, k, progress)
    provenance = projection.provenance(vectors.provenance)
    points = MapPoints(vectors.rows)
    with writing(target, provenance, overwrite=overwrite) as writer:
        done = 0
        parts: list[Path] = []
        for rows in _parts(source):
            part = PartWriter(writer.staging / part_name(), schema_with_provenance(provenance))
            for batch in rows:
                projected = projection.apply_to(batch)
                part.write(projected)
                points.take(projected)
                done += batch.num_rows
                progress(Snapshot("projecting", done, vectors.all_rows))
            part.close()
            parts.append(part.path)
        for path in parts:  # all at once, after the last row
            writer.commit(path)
    table = str(target)
    return Projected(table, projection, done, provenance["fingerprint"], points)


def check_target(source: FeatureTable | None, target: FeatureTable, *, overwrite: bool) -> None:
    """Check that the new table may be written.

    Args:
        source: the table to project; None if it is not on this machine.
        target: the new table.
        overwrite: whether the new table may replace an existing one.

    Raises:
        TableError: the target is the source, exists already, or cannot hold a table.
    """
    if source is not None and source.is_same_as(target):
        raise TableError(f"{target} is the table to project: give another `target`")
    target.check()
    if target.exists() and not overwrite:
        raise TableError(f"{target} exists: give another `target`, or `overwrite`")


def _parts(source: FeatureTable) -> Iterator[Iterator[pa.RecordBatch]]:
    """Yield the table's rows, one iterator of batches for each new part file."""
    batches = source.batches()
    for first in batches:

        def some(first: pa.RecordBatch = first) -> Iterator[pa.RecordBatch]:
            yield first
            rows = first.num_rows
            while rows < _PART_ROWS and (batch := next(batches, None)) is not None:
                rows += batch.num_rows
                yield batch

        yield some()
