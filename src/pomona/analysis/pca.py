"""PCA: the directions in which vectors differ most, of a table of any size or of rows in memory.

The covariance of all rows is summed up block by block, and SciPy's `eigh` decomposes it: exact, the
same in every run, in one pass over the table, with D x D numbers in memory. `IncrementalPCA` of
scikit-learn also streams, but it approximates, depends on the order of the rows, and computes a
singular value decomposition for each block, which is slower while D x D is small.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pomona.encoder.encoder import canonical_digest
from pomona.errors import UsageError
from pomona.messages import count_of
from pomona.progress import Progress, Snapshot, no_progress
from pomona.schema import FEATURE_SCHEMA
from pomona.worker.featurize import vectors_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.analysis.vectors import Vectors

__all__ = ["Projection", "check_size", "fit_projection", "orient", "principal_places"]

_LARGEST_D = 16_384  # D x D in float64 takes 2 GB


@dataclass(frozen=True, slots=True)
class Projection:
    """A PCA of vectors of length D onto k components.

    Attributes:
        mean: (D,) float64, subtracted first.
        components: (k, D) float64, of length 1, orthogonal, the strongest first. In each, the
            number with the largest absolute value is positive: signs do not depend on the library.
        explained: (k,) float64, the share of the variance along each component.
        rows: the number of vectors that the components were computed from.
        method: how they were computed, for display.
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
        """Project the vectors of a batch of rows; rows without a vector stay as they are."""
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
        """Return the provenance of the projected table: the source's, and the projection.

        The new fingerprint hashes the source's and the numbers of the projection. So readers can
        distinguish its rows from the encoder's and from those of other projections.
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


def fit_projection(vectors: Vectors, k: int, progress: Progress = no_progress) -> Projection:
    """Compute the PCA of a table's vectors, exactly, in one pass over the table.

    Args:
        vectors: N of length D.
        k: components to keep.
        progress: called with the progress.

    Raises:
        UsageError: k is too large for the vectors, or they are too long or all equal.
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
            shift = rows.mean(axis=0)  # near the mean, so that no large numbers cancel later
        rows -= shift
        total += rows.sum(axis=0)
        products += rows.T @ rows  # (D, B) @ (B, D)
        done += len(block)
        progress(Snapshot("summing up", done, vectors.rows))
    assert shift is not None  # noqa: S101 - `check_size` requires rows
    off = total / done
    covariance = (products - done * np.outer(off, off)) / (done - 1)
    progress(Snapshot("decomposing", 0, 1))
    total_variance = float(np.trace(covariance))
    if not total_variance > 0:
        raise UsageError("all vectors are equal: there are no directions to project them onto")
    variances, components = _strongest(covariance, k)
    explained = np.maximum(variances, 0) / total_variance  # rounding may give less than zero
    return Projection(shift + off, orient(components), explained, done, "covariance and eigh")


def check_size(k: int, dimension: int, rows: int) -> None:
    """Check that N vectors of length D have k components.

    Raises:
        UsageError: they do not, or the vectors are too long.
    """
    if dimension > _LARGEST_D:
        raise UsageError(
            f"vectors of {dimension:,} numbers are too long for PCA here (at most {_LARGEST_D:,}): "
            "choose another `layer` when extracting"
        )
    if k > dimension:
        raise UsageError(
            f"`k` {k}: the table's vectors have {count_of(dimension, 'number')}: give fewer"
        )
    if rows <= k:
        raise UsageError(
            f"`k` {k}: the table has {count_of(rows, 'row')} with a vector, too few for that "
            f"many components: give a number below {max(rows, 2):,}, or a larger table"
        )


def principal_places(vectors: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """Return the places of rows in memory along their k strongest components.

    Args:
        vectors: (N, D) float32.
        k: number of components; 0 in those that N vectors of length D do not have.

    Returns:
        (N, k) float32, relative to the mean of the rows.
    """
    centred = vectors - vectors.mean(axis=0)
    count = min(k, *centred.shape)
    if centred.shape[0] < centred.shape[1]:
        # N x N numbers instead of D x D: the same variances, and the places themselves.
        values, along = _strongest(centred @ centred.T, count)  # (count, N)
        along *= np.sqrt(np.maximum(values, 0))[:, None]
    else:
        along = _strongest(centred.T @ centred, count)[1] @ centred.T  # (count, D) @ (D, N)
    places = np.zeros((len(vectors), k), np.float32)
    places[:, :count] = orient(along).T
    return places


def orient(components: NDArray[np.floating]) -> NDArray[Any]:
    """Return components (k, D) in which the number of largest absolute value is positive."""
    largest = np.abs(components).argmax(axis=1)
    signs = np.sign(components[np.arange(len(components)), largest])
    return np.ascontiguousarray(components * signs[:, None])


def _strongest(symmetric: NDArray[Any], k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the k largest eigenvalues of (n, n), descending, and their vectors: (k,), (k, n)."""
    from scipy.linalg import eigh

    size = len(symmetric)
    values, vectors = eigh(symmetric.astype(np.float64), subset_by_index=(size - k, size - 1))
    return values[::-1], vectors[:, ::-1].T
