"""What the neighbours of rows show: the separability of classes, and chains of near images."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pomona.analysis.classifier.wilson import wilson
from pomona.analysis.neighbours.groups import Groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.analysis.neighbours.exact import Neighbours

__all__ = [
    "ClassSeparation",
    "chains",
    "score_classes",
]


@dataclass(frozen=True, slots=True)
class ClassSeparation:
    """How separable a class is: how often the nearest other row of a row has its label.

    Attributes:
        label: of the class.
        rows: number of rows of the class with a labelled neighbour.
        right: number of them whose nearest labelled neighbour has the same label.
        confused_with: the other label that was nearest most often, or None.
        confused: how often it was nearest.
    """

    label: str
    rows: int
    right: int
    confused_with: str | None
    confused: int

    @property
    def accuracy(self) -> float:
        """The share of rows whose nearest labelled neighbour has the same label."""
        return self.right / self.rows

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval of the accuracy."""
        return wilson(self.right, self.rows)


def score_classes(labels: list[str | None], neighbours: Neighbours) -> list[ClassSeparation]:
    """Return the leave-one-out nearest-neighbour accuracy of each class, the lowest first.

    Rows without a label, and rows without a labelled neighbour, do not count.
    """
    counts: Counter[str] = Counter()
    right: Counter[str] = Counter()
    wrong: dict[str, Counter[str]] = {}
    for label, neighbour_rows in zip(labels, neighbours.rows, strict=True):
        answer = next((labels[row] for row in neighbour_rows if labels[row] is not None), None)
        if label is None or answer is None:
            continue
        counts[label] += 1
        if answer == label:
            right[label] += 1
        else:
            wrong.setdefault(label, Counter())[answer] += 1
    scores = []
    for label, rows in counts.items():
        others = wrong.get(label, Counter())
        other = max(others, key=lambda answer: others[answer], default=None)
        times = others[other] if other is not None else 0
        scores.append(ClassSeparation(label, rows, right[label], other, times))
    return sorted(scores, key=lambda score: (score.accuracy, score.label))


def chains(neighbours: Neighbours, threshold: float) -> NDArray[np.int32]:
    """Return the chain of each row, (N,): equal for rows that near pairs connect."""
    groups = Groups(len(neighbours.rows))
    rows, places = np.nonzero(neighbours.similarity >= threshold)
    groups.connect(rows, neighbours.rows[rows, places])
    return groups.component()
