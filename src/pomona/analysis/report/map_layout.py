"""Where each row lies on the report's map: t-SNE, or the first two components of a PCA."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.extras import check_extra

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["check_map", "place_rows"]

_FEW = 8  # rows that t-SNE makes nothing of
_PERPLEXITY = 30.0  # scikit-learn's own: neighbours that a row keeps near to it
_STEPS = 500
_BEFORE = 50  # components that t-SNE starts from, as its authors advise (van der Maaten, 2008)


def check_map(method: str) -> None:
    """Find out, before the work, whether a map can be made in this way.

    Raises:
        UsageError: t-SNE without scikit-learn.
    """
    if method == "tsne":
        what = "a t-SNE map needs scikit-learn"
        check_extra("analysis", what, "sklearn", "threadpoolctl", instead=", or use --map pca")


def place_rows(vectors: NDArray[np.float32], method: str) -> NDArray[np.float32]:
    """Place rows on a map, near ones near to each other.

    Args:
        vectors: (N, D) float32, of length 1.
        method: `tsne` or `pca`; of a handful of rows there is only `pca`.

    Returns:
        (N, 2) float32 between 0 and 1. The same vectors give the same map.

    Raises:
        UsageError: t-SNE without scikit-learn.
    """
    count = len(vectors)
    reduced = _components(vectors, 2 if method == "pca" or count < _FEW else _BEFORE)
    if method == "pca" or count < _FEW:
        return _scaled(reduced)
    check_map(method)
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(_PERPLEXITY, (count - 1) / 3)
    made: Any = TSNE(2, perplexity=perplexity, init="pca", random_state=0, max_iter=_STEPS)
    # Its threads wait for each other busily. With other work on the machine two of them took 149 s
    # for 3,245 images where one took 14 s.
    with threadpool_limits(1):
        return _scaled(made.fit_transform(reduced))


def _components(vectors: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """(N, k) along the k strongest principal components, fewer where there are not as many."""
    centred = vectors - vectors.mean(axis=0)
    k = min(k, *centred.shape)
    if centred.shape[0] < centred.shape[1]:  # the smaller of the two products has the same ones
        values, rotated = np.linalg.eigh(centred @ centred.T)
        strongest = rotated[:, ::-1][:, :k] * np.sqrt(np.maximum(values[::-1][:k], 0))
    else:
        _, directions = np.linalg.eigh(centred.T @ centred)
        strongest = centred @ directions[:, ::-1][:, :k]
    signs = np.sign(strongest[np.abs(strongest).argmax(axis=0), np.arange(k)])
    if k == 1:
        strongest = np.column_stack([strongest, np.zeros(len(strongest))])
        signs = np.array([*signs, 1.0])
    return np.ascontiguousarray(strongest * signs, dtype=np.float32)


def _scaled(places: NDArray[np.float32]) -> NDArray[np.float32]:
    """Both axes by the same factor, so that the map is not squeezed; the middle is the middle."""
    low, high = places.min(axis=0), places.max(axis=0)
    size = float((high - low).max()) or 1.0
    scaled: NDArray[np.float32] = ((places - (low + high) / 2) / size + 0.5).astype(np.float32)
    return scaled
