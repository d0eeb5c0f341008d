"""PCA of a table's vectors: the directions in which they differ most, and a new table of those.

The covariance of all rows is summed up block by block, and SciPy's `eigh` takes it apart: exact and
the same at every run, in two passes over the table, with D x D numbers held. `IncrementalPCA` of
scikit-learn also streams, but it approximates, depends on the order of the rows, and does a
singular value decomposition for each block: slower as long as D x D is small.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pomona.analysis.progress import Step, no_steps
from pomona.analysis.vectors import Vectors, open_vectors
from pomona.encoder.encoder import canonical_digest
from pomona.errors import TableError, UsageError
from pomona.plural import count_of
from pomona.schema import FEATURE_SCHEMA, schema_with_provenance
from pomona.table.feature_table import FeatureTable
from pomona.table.part_file import PartWriter, part_name
from pomona.table.writer import writing
from pomona.worker.featurize import vectors_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "MAP_POINTS",
    "MapPoints",
    "Projected",
    "Projection",
    "check_target",
    "fit_projection",
    "project",
]

_LARGEST_D = 16_384  # D x D in float64 is 2 GB there
_PART_ROWS = 250_000
MAP_POINTS = 20_000


@dataclass(frozen=True, slots=True)
class Projection:
    """A PCA of vectors of length D onto k components.

    Attributes:
        mean: (D,) float64, taken off first.
        components: (k, D) float64, of length 1, orthogonal, the strongest first. The number of the
            largest size in each is positive, so that signs do not depend on the library.
        explained: (k,) float64, share of the variance that lies along each.
        rows: how many vectors it was made from.
        method: what computed it.
    """

    mean: NDArray[np.float64]
    components: NDArray[np.float64]
    explained: NDArray[np.float64]
    rows: int
    method: str

    def apply(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Project: (B, D) float32 -> (B, k) float32."""
        centred = vectors - self.mean  # float64
        projected: NDArray[np.float32] = (centred @ self.components.T).astype(np.float32)
        return projected

    def apply_to(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A batch of the table's rows with projected vectors; rows without one stay as they are."""
        features = batch["features"]
        vectors = features.flatten().to_numpy().reshape(-1, len(self.mean))
        present = features.is_valid().to_pylist()
        at = FEATURE_SCHEMA.get_field_index("features")
        column = vectors_array(present, self.apply(vectors))
        columns = [
            column if i == at else batch[name] for i, name in enumerate(FEATURE_SCHEMA.names)
        ]
        return pa.RecordBatch.from_arrays(columns, schema=FEATURE_SCHEMA)

    def provenance(self, source: Mapping[str, str]) -> dict[str, str]:
        """What the new table says of itself: the source's provenance, and what was done to it.

        The fingerprint is derived from the source's and from the numbers of the projection, so no
        reader takes its rows for the encoder's own, nor those of another projection.
        """
        numbers = hashlib.sha256(self.mean.tobytes() + self.components.tobytes()).hexdigest()
        size = len(self.components)
        return {
            **source,
            "fingerprint": canonical_digest(
                {"fingerprint": source["fingerprint"], "projection_sha256": numbers}
            ),
            "dimension": str(size),
            "projection": f"PCA, {size} of {len(self.mean)}, by {self.method}",
            "projection_of": source["fingerprint"],
            "projection_sha256": numbers,
            "projection_rows": str(self.rows),
            "explained_variance": f"{self.explained.sum():.6f}",
        }


@dataclass(slots=True)
class MapPoints:
    """Rows of a map: places along the first two components, and labels.

    Attributes:
        of: how many rows there are; a map shows at most 20,000 of them, evenly spread.
        places: arrays of (B, 2) float32.
        labels: of the same rows.
    """

    of: int
    places: list[NDArray[np.float32]] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    _seen: int = 0

    def take(self, batch: pa.RecordBatch) -> None:
        """Keep every so many of the rows with a vector."""
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
    """What `project` made.

    Attributes:
        table: the new one.
        projection: the PCA.
        rows: of the new table.
        fingerprint: of the new table.
        points: for a map.
    """

    table: str
    projection: Projection
    rows: int
    fingerprint: str
    points: MapPoints = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """The object that `pomona project --json` prints."""
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


def fit_projection(vectors: Vectors, k: int, step: Step = no_steps) -> Projection:
    """Compute the PCA of a table's vectors, exactly.

    Args:
        vectors: N of length D.
        k: components to keep.
        step: told how far it is.

    Raises:
        UsageError: more components than the vectors can have, vectors too long, or all the same.
    """
    check_size(k, vectors.dimension, vectors.rows)
    dimension = vectors.dimension
    shift: NDArray[np.float64] | None = None
    total = np.zeros(dimension)
    products = np.zeros((dimension, dimension))
    done = 0
    for block in vectors.blocks(4096):
        rows = block.vectors.astype(np.float64)
        if shift is None:
            shift = rows.mean(axis=0)  # near the mean: no large numbers that cancel in the end
        rows -= shift
        total += rows.sum(axis=0)
        products += rows.T @ rows  # (D, B) @ (B, D)
        done += len(block)
        step("adding up", done, vectors.rows)
    assert shift is not None  # noqa: S101 - `check_size` has seen rows
    off = total / done
    covariance = (products - done * np.outer(off, off)) / (done - 1)
    step("taking apart", 0, 1)
    return _principal(shift + off, covariance, k, done)


def check_size(k: int, dimension: int, rows: int) -> None:
    """Make sure that so many components can be had.

    Raises:
        UsageError: they cannot.
    """
    if dimension > _LARGEST_D:
        raise UsageError(
            f"vectors of {dimension:,} numbers are too long for PCA here (at most {_LARGEST_D:,}): "
            "take another --layer when extracting"
        )
    if k > dimension:
        raise UsageError(
            f"-k {k}: the table's vectors have {count_of(dimension, 'number')}: give fewer"
        )
    if rows <= k:
        raise UsageError(
            f"-k {k}: the table has {count_of(rows, 'row')} with a vector, too few for so many "
            f"components: give a number below {max(rows, 2):,}, or a larger table"
        )


def orient(components: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn components so that the number of the largest size in each is positive: (k, D)."""
    largest = np.abs(components).argmax(axis=1)
    signs = np.sign(components[np.arange(len(components)), largest])
    turned: NDArray[np.float64] = np.ascontiguousarray(components * signs[:, None])
    return turned


def project(
    table: FeatureTable | str | os.PathLike[str],
    target: FeatureTable | str | os.PathLike[str],
    k: int,
    *,
    overwrite: bool = False,
    progress: Step = no_steps,
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
        TableError: the source is no feature table, or the target cannot be written.
        UsageError: as `fit_projection`.
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
                progress("projecting", done, vectors.all_rows)
            part.close()
            parts.append(part.path)
        for path in parts:  # all of them at once, after the last row
            writer.commit(path)
    table = str(target.folder)
    return Projected(table, projection, done, provenance["fingerprint"], points)


def check_target(source: FeatureTable | None, target: FeatureTable, *, overwrite: bool) -> None:
    """Make sure that the new table may be written.

    Args:
        source: the table to project; None where it is not on this machine.
        target: the new one.
        overwrite: whether it may take the place of one that is there.

    Raises:
        TableError: it is the source itself, is there already, or is no place for a table.
    """
    if source is not None and source.folder.resolve() == target.folder.resolve():
        raise TableError(f"{target.folder} is the table to project: give another -o TABLE")
    target.check()
    if target.exists() and not overwrite:
        raise TableError(f"{target.folder} exists: give another -o TABLE, or --overwrite")


def _parts(source: FeatureTable) -> Iterator[Iterator[pa.RecordBatch]]:
    """The table's rows, for one part file after the other."""
    batches = source.batches()
    for first in batches:

        def some(first: pa.RecordBatch = first) -> Iterator[pa.RecordBatch]:
            yield first
            rows = first.num_rows
            while rows < _PART_ROWS and (batch := next(batches, None)) is not None:
                rows += batch.num_rows
                yield batch

        yield some()


def _principal(
    mean: NDArray[np.float64], covariance: NDArray[np.float64], k: int, rows: int
) -> Projection:
    from scipy.linalg import eigh

    total = float(np.trace(covariance))
    if not total > 0:
        raise UsageError("all vectors are the same: there is nothing to project them onto")
    size = len(covariance)
    variances, vectors = eigh(covariance, subset_by_index=(size - k, size - 1))
    explained = np.maximum(variances[::-1], 0) / total  # roundings may be below zero
    return Projection(mean, orient(vectors[:, ::-1].T), explained, rows, "covariance and eigh")
