"""The strength of a classifier's regularisation: chosen by cross-validation, on log loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.progress import Progress, Snapshot

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GRID", "Strength", "choose_strength"]

GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Values of scikit-learn's C, the weakest regularisation last."""

_DEFAULT = 1e-2
_FOLDS = 5
_MAX_ROWS = 5000  # a fold of 4,000 x 1280 takes a second or two; more rows hardly change the choice


@dataclass(frozen=True, slots=True)
class Strength:
    """The chosen strength, and the losses that decided it.

    Attributes:
        value: scikit-learn's C: the smaller, the stronger the regularisation.
        folds: number of folds of the cross-validation; 0 if there were too few images for one.
        rows: number of images in the cross-validation.
        log_losses: mean over the folds for each C that was tried: the smaller, the better.
    """

    value: float
    folds: int
    rows: int
    log_losses: dict[float, float]

    def to_json(self) -> dict[str, Any]:
        """Return the strength as JSON values."""
        losses = {f"{c:g}": loss for c, loss in self.log_losses.items()}
        return {"C": self.value, "folds": self.folds, "rows": self.rows, "log_losses": losses}


def choose_strength(
    matrix: NDArray[np.float32],
    codes: NDArray[np.int32],
    seed: int,
    progress: Progress,
) -> Strength:
    """Choose C by stratified cross-validation, on at most 5,000 rows.

    The criterion is log loss, not accuracy: if features separate the classes well, many values of C
    predict the same labels but different probabilities, and `classify` returns probabilities.

    The rows were standardised together, so a fold depends on mean and variance of the other folds,
    but not on their labels.

    Args:
        matrix: (N, D) float32, standardised.
        codes: (N,) classes.
        seed: of the folds, and of the selection if there are more than 5,000 rows.
        progress: called with the progress.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedKFold

    chosen, folds = _rows(codes, seed)
    if not folds:
        return Strength(_DEFAULT, 0, 0, {})
    sample, labels = matrix[chosen], codes[chosen]  # a copy: at most 5,000 rows
    losses = np.zeros((folds, len(GRID)))
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for fold, (learn, test) in enumerate(splitter.split(sample, labels)):
        # Each fit starts from the solution of the last one, which is more strongly regularised.
        solver = LogisticRegression(warm_start=True, max_iter=500, tol=1e-3)
        trained, tested = sample[learn], sample[test]
        for at, value in enumerate(GRID):
            progress(Snapshot("choosing the strength", fold * len(GRID) + at, folds * len(GRID)))
            solver.set_params(C=value).fit(trained, labels[learn])
            probabilities = solver.predict_proba(tested).astype(np.float64)
            # The sums are 1 in float32, but not exactly in float64.
            probabilities /= probabilities.sum(axis=1, keepdims=True)
            losses[fold, at] = log_loss(labels[test], probabilities, labels=solver.classes_)
    means = losses.mean(axis=0)
    losses_by_c = {value: float(loss) for value, loss in zip(GRID, means, strict=True)}
    return Strength(GRID[int(means.argmin())], folds, len(chosen), losses_by_c)


def _rows(codes: NDArray[np.int32], seed: int) -> tuple[NDArray[np.int64], int]:
    """Return the rows to use and the number of folds; 0 folds if there are too few images.

    Classes with fewer images than folds are not used.
    """
    counts = np.bincount(codes)
    for folds in range(_FOLDS, 1, -1):
        enough = np.flatnonzero(counts >= folds)
        if len(enough) >= 2 and 2 * counts[enough].sum() >= len(codes):
            break
    else:
        return np.empty(0, np.int64), 0
    random = np.random.default_rng(seed)
    share = min(1.0, _MAX_ROWS / int(counts[enough].sum()))
    picked = [
        random.permutation(np.flatnonzero(codes == code))[
            : max(folds, round(share * int(counts[code])))
        ]
        for code in enough
    ]
    return np.sort(np.concatenate(picked)), folds
