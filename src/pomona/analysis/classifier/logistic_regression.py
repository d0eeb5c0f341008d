"""Multinomial logistic regression whose rows are read in blocks: L-BFGS in bounded memory.

scikit-learn's solver minimises the same objective by the same algorithm, but it holds the logits of
all rows at once: 40 GB for 10 million rows of 1,000 classes. Here they are those of one block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Fit", "block_rows", "fit", "log_loss"]

_MAX_ITERATIONS = 1000
_TOLERANCE = 1e-4  # of the gradient of the mean loss, as in scikit-learn

Blocks = Callable[[], Iterable["NDArray[np.float32]"]]
"""Called for each pass: yields blocks (B, D), together the N rows in their order."""


@dataclass(frozen=True, slots=True)
class Fit:
    """The solution.

    Attributes:
        weights: (K, D + 1) float64, the intercepts last; (1, D + 1) for two classes, of the second
            class, because only the difference of the two counts.
        converged: whether the solver converged.
    """

    weights: NDArray[np.float64]
    converged: bool


def block_rows(dimension: int, classes: int = 0) -> int:
    """Return the number of rows of a block: its vectors and its logits take at most 64 MiB each."""
    return max(64, min(8192, 2**24 // max(dimension, classes, 1)))


def fit(
    blocks: Blocks,
    codes: NDArray[np.int32],
    classes: int,
    strength: float,
    start: NDArray[np.float64] | None = None,
) -> Fit:
    """Minimise  C * sum of the log losses + ||W||^2 / 2,  the objective of scikit-learn.

    W has no intercepts. The algorithm is L-BFGS-B of SciPy (D. C. Liu and J. Nocedal, Math.
    Program. 45, 1989). Products are float32, sums over blocks float64.

    Args:
        blocks: the rows.
        codes: (N,) classes, 0 to K - 1.
        classes: K, 2 or more.
        strength: C.
        start: weights to start from; by default zeros.
    """
    from scipy.optimize import minimize

    if start is None:
        start = np.zeros((1 if classes == 2 else classes, next(iter(blocks())).shape[1] + 1))

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(start.shape)
        loss, gradient = _loss_and_gradient(blocks, codes, classes, weights)
        gradient[:, :-1] += weights[:, :-1] / (strength * len(codes))
        penalty = float((weights[:, :-1] ** 2).sum()) / (2 * strength * len(codes))
        return loss + penalty, gradient.ravel()

    found = minimize(
        objective,
        start.ravel(),
        method="L-BFGS-B",
        jac=True,
        options={"maxiter": _MAX_ITERATIONS, "gtol": _TOLERANCE, "ftol": 1e-12, "maxls": 50},
    )
    return Fit(found.x.reshape(start.shape), found.nit < _MAX_ITERATIONS)


def log_loss(
    blocks: Blocks, codes: NDArray[np.int32], classes: int, weights: NDArray[np.float64]
) -> float:
    """Return the mean log loss of rows under the weights of a `Fit`, in nats."""
    return _loss_and_gradient(blocks, codes, classes, weights)[0]


def _loss_and_gradient(
    blocks: Blocks, codes: NDArray[np.int32], classes: int, weights: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Return the mean log loss of all rows, and its gradient, of the shape of `weights`."""
    first = classes - len(weights)  # 1 for two classes: the logit of class 0 is 0
    coefficients, intercepts = weights[:, :-1].astype(np.float32), weights[:, -1].astype(np.float32)
    loss, gradient, done = 0.0, np.zeros_like(weights), 0
    for block in blocks():  # (B, D)
        own = np.arange(len(block)), codes[done : done + len(block)]
        done += len(block)
        logits = np.zeros((len(block), classes), np.float32)
        logits[:, first:] = block @ coefficients.T + intercepts
        logits -= logits.max(axis=1, keepdims=True)
        loss -= float(logits[own].sum(dtype=np.float64))
        np.exp(logits, out=logits)
        sums = logits.sum(axis=1, keepdims=True)
        loss += float(np.log(sums).sum(dtype=np.float64))
        logits /= sums  # probabilities, and then their errors
        logits[own] -= 1
        errors = logits[:, first:]
        gradient[:, :-1] += errors.T @ block
        gradient[:, -1] += errors.sum(axis=0, dtype=np.float64)
    return loss / len(codes), gradient / len(codes)
