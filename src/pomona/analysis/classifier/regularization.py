"""How strongly a classifier is regularised: by cross-validation, on log loss."""

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
    """What was chosen, and why.

    Attributes:
        value: scikit-learn's C: the smaller, the stronger the regularisation.
        folds: of the cross-validation; 0 if there were too few images for one.
        rows: images in it.
        log_losses: mean over the folds for each C that was tried: the smaller, the better.
    """

    value: float
    folds: int
    rows: int
    log_losses: dict[float, float]

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON knows it."""
        losses = {f"{c:g}": loss for c, loss in self.log_losses.items()}
        return {"C": self.value, "folds": self.folds, "rows": self.rows, "log_losses": losses}


def choose_strength(
    matrix: NDArray[np.float32],
    codes: NDArray[np.int32],
    seed: int,
    progress: Progress,
) -> Strength:
    """Choose C by stratified cross-validation, on at most 5,000 rows.

    Log loss, not accuracy: good features separate the classes, and then many values of C are
    equally right but not equally sure of themselves, and `classify` tells probabilities.

    The rows were standardised together. That lets a fold see mean and variance of the others, but
    no label.

    Args:
        matrix: (N, D) float32, standardised.
        codes: (N,) classes.
        seed: of the folds, and of the rows where there are more than 5,000.
        progress: is called with how far it is.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedKFold

    chosen, folds = _rows(codes, seed)
    if not folds:
        return Strength(_DEFAULT, 0, 0, {})
    few, answers = matrix[chosen], codes[chosen]  # a copy: at most 5,000 rows
    losses = np.zeros((folds, len(GRID)))
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for fold, (learn, test) in enumerate(splitter.split(few, answers)):
        # Each fit begins where the last one, more strongly regularised, has ended.
        solver = LogisticRegression(warm_start=True, max_iter=500, tol=1e-3)
        trained, tested = few[learn], few[test]
        for at, value in enumerate(GRID):
            progress(Snapshot("choosing the strength", fold * len(GRID) + at, folds * len(GRID)))
            solver.set_params(C=value).fit(trained, answers[learn])
            found = solver.predict_proba(tested).astype(np.float64)
            found /= found.sum(axis=1, keepdims=True)  # 1 in float32, not quite in float64
            losses[fold, at] = log_loss(answers[test], found, labels=solver.classes_)
    means = losses.mean(axis=0)
    told = {value: float(loss) for value, loss in zip(GRID, means, strict=True)}
    return Strength(GRID[int(means.argmin())], folds, len(chosen), told)


def _rows(codes: NDArray[np.int32], seed: int) -> tuple[NDArray[np.int64], int]:
    """Which rows take part, and in how many folds; classes with fewer images than that do not.

    Raises no error where there are too few: then there are 0 folds.
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
