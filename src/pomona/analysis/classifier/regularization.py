"""The strength of a classifier's regularisation: chosen by cross-validation, on log loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.analysis.classifier.logistic_regression import Blocks, fit, log_loss
from pomona.progress import Progress, Snapshot

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.analysis.classifier.training_data import TrainingData

__all__ = ["GRID", "Strength", "choose_strength"]

GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Values of scikit-learn's C, the weakest regularisation last."""

_DEFAULT = 1e-2
_SAME = 1e-3  # nats: a probability that differs by 0.1 %
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

    @property
    def at_end(self) -> bool:
        """Return whether C is the smallest or largest of the grid: a better one may be beyond."""
        return self.value in {GRID[0], GRID[-1]}

    def to_json(self) -> dict[str, Any]:
        """Return the strength as JSON values."""
        losses = {f"{c:g}": loss for c, loss in self.log_losses.items()}
        return {
            "C": self.value,
            "at_end_of_grid": self.at_end,
            "folds": self.folds,
            "rows": self.rows,
            "log_losses": losses,
        }


def choose_strength(
    data: TrainingData,
    codes: NDArray[np.int32],
    seed: int,
    progress: Progress,
) -> Strength:
    """Choose C by stratified cross-validation, on at most 5,000 rows.

    The criterion is log loss, not accuracy: if features separate the classes well, many values of C
    predict the same labels but different probabilities, and `classify` returns probabilities.

    Values are tried from the smallest C on, until the loss rises. The smallest C is chosen whose
    loss is within 0.001 nats of the lowest: for classes that are far apart, it falls without end.

    The rows were standardised together, so a fold depends on mean and variance of the other folds,
    but not on their labels.

    Args:
        data: N standardised vectors.
        codes: (N,) classes.
        seed: of the folds, and of the selection if there are more than 5,000 rows.
        progress: called with the progress.
    """
    from sklearn.model_selection import StratifiedKFold

    chosen, folds = _rows(codes, seed)
    if not folds:
        return Strength(_DEFAULT, 0, 0, {})
    sample = data.take(chosen)
    names, labels = np.unique(codes[chosen], return_inverse=True)
    labels = labels.astype(np.int32)
    splits = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(sample, labels))
    starts: list[NDArray[np.float64] | None] = [None] * folds
    losses: dict[float, float] = {}
    for at, value in enumerate(GRID):
        total = 0.0
        for fold, (learn, test) in enumerate(splits):
            progress(Snapshot("choosing the strength", at * folds + fold, folds * len(GRID)))
            # Each fit starts from the solution of the last one, which is more strongly regularised.
            found = fit(_all_of(sample[learn]), labels[learn], len(names), value, starts[fold])
            starts[fold] = found.weights
            total += log_loss(_all_of(sample[test]), labels[test], len(names), found.weights)
        losses[value] = total / folds
        if losses[value] > min(losses.values()):
            break
    lowest = min(losses.values())
    best = next(value for value, loss in losses.items() if loss <= lowest + _SAME)
    return Strength(best, folds, len(chosen), losses)


def _all_of(matrix: NDArray[np.float32]) -> Blocks:
    return lambda: (matrix,)


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
