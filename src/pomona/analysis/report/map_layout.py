"""The places of rows on the report's map: t-SNE, or the first two components of a PCA."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.analysis.pca import principal_places
from pomona.extras import check_extra

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["check_map", "is_by_pca", "place_rows"]

_FEW = 8  # fewer rows are placed by PCA: t-SNE finds no structure in them
_PERPLEXITY = 30.0  # scikit-learn's default: about the number of neighbours of a row
_STEPS = 500
_BEFORE = 50  # components that t-SNE starts from, as its authors advise (van der Maaten, 2008)


def check_map(method: str) -> None:
    """Check before the work that a map can be made with this method.

    Raises:
        UsageError: `tsne` needs scikit-learn, which is not installed.
    """
    if method == "tsne":
        what = "a t-SNE map needs scikit-learn"
        check_extra("analysis", what, "sklearn", "threadpoolctl", instead=", or set `map` to pca")


def is_by_pca(method: str, rows: int) -> bool:
    """Return whether PCA places this many rows with this method."""
    return method == "pca" or rows < _FEW


def place_rows(vectors: NDArray[np.float32], method: str) -> NDArray[np.float32]:
    """Place rows on a map so that similar rows are near each other.

    Args:
        vectors: (N, D) float32, of length 1.
        method: `tsne` or `pca`. Fewer than 8 rows are always placed by `pca`.

    Returns:
        (N, 2) float32 between 0 and 1, the same for the same vectors.

    Raises:
        UsageError: `tsne` needs scikit-learn, which is not installed.
    """
    count = len(vectors)
    if is_by_pca(method, count):
        return _scaled(principal_places(vectors, 2))
    check_map(method)
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(_PERPLEXITY, (count - 1) / 3)
    tsne: Any = TSNE(2, perplexity=perplexity, init="pca", random_state=0, max_iter=_STEPS)
    # Its threads spin while they wait for each other: with other work on the machine, two threads
    # took 149 s for 3,245 images and one took 14 s.
    with threadpool_limits(1):
        return _scaled(tsne.fit_transform(principal_places(vectors, _BEFORE)))


def _scaled(places: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale both axes by one factor, to the square from 0 to 1, around its middle."""
    low, high = places.min(axis=0), places.max(axis=0)
    size = float((high - low).max()) or 1.0
    scaled: NDArray[np.float32] = ((places - (low + high) / 2) / size + 0.5).astype(np.float32)
    return scaled
