"""What the nearest rows of each row say: do they have its label, and is it there twice?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pomona.analysis.classifier.wilson import wilson
from pomona.analysis.progress import Step, no_steps

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "ClassSeparation",
    "Neighbours",
    "Suspect",
    "find_neighbours",
    "near_groups",
    "score_classes",
    "suspects",
]

_TILE_ROWS = 512  # against 50,000 rows: 100 MB of cosines
_SURE = 0.6  # a share of the neighbours with one other label that makes a label doubtful


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The k nearest of each of N rows, the nearest first; a row is not its own.

    Attributes:
        rows: (N, k) int.
        similarity: (N, k) float32, cosines.
    """

    rows: NDArray[np.intp]
    similarity: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ClassSeparation:
    """How well a class stands apart: how often a row's nearest has its label, leaving it out.

    Attributes:
        label: of the class.
        rows: that were asked.
        right: whose nearest labelled row has the same label.
        confused_with: the other label that was nearest most often, or None.
        confused: how often.
    """

    label: str
    rows: int
    right: int
    confused_with: str | None
    confused: int

    @property
    def accuracy(self) -> float:
        """Share of rows whose nearest has their label."""
        return self.right / self.rows

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the accuracy."""
        return wilson(self.right, self.rows)


@dataclass(frozen=True, slots=True)
class Suspect:
    """A row whose neighbours have another label.

    Attributes:
        row: its number.
        other: the label of most neighbours.
        votes: how many have it.
        own: how many have the row's own label.
        of: how many have any label.
    """

    row: int
    other: str
    votes: int
    own: int
    of: int


def find_neighbours(vectors: NDArray[np.float32], k: int, step: Step = no_steps) -> Neighbours:
    """Find the nearest rows of each row, exactly.

    Args:
        vectors: (N, D) float32, of length 1.
        k: how many; at most N - 1 come back.
        step: told how far it is.
    """
    count = len(vectors)
    k = min(k, count - 1)
    rows = np.empty((count, k), np.intp)
    similarity = np.empty((count, k), np.float32)
    for start in range(0, count if k else 0, _TILE_ROWS):
        block = vectors[start : start + _TILE_ROWS]
        cosines = block @ vectors.T  # (B, D) @ (D, N) -> (B, N) float32
        here = np.arange(len(block))
        cosines[here, start + here] = -np.inf
        best = np.argpartition(cosines, count - k, axis=1)[:, count - k :]
        found = np.take_along_axis(cosines, best, 1)
        order = np.argsort(-found, axis=1, kind="stable")
        stop = start + len(block)
        rows[start:stop] = np.take_along_axis(best, order, 1)
        similarity[start:stop] = np.take_along_axis(found, order, 1)
        step("comparing", stop, count)
    return Neighbours(rows, similarity)


def score_classes(labels: list[str | None], neighbours: Neighbours) -> list[ClassSeparation]:
    """Leave-one-out nearest-neighbour accuracy of each class, the lowest first.

    A row without a label is neither asked nor an answer; nor is a row none of whose neighbours has
    a label.
    """
    asked: Counter[str] = Counter()
    right: Counter[str] = Counter()
    wrong: dict[str, Counter[str]] = {}
    for label, near in zip(labels, neighbours.rows, strict=True):
        answer = next((labels[row] for row in near if labels[row] is not None), None)
        if label is None or answer is None:
            continue
        asked[label] += 1
        if answer == label:
            right[label] += 1
        else:
            wrong.setdefault(label, Counter())[answer] += 1
    scores = []
    for label, rows in asked.items():
        answers = wrong.get(label, Counter())
        other = max(answers, key=lambda answer: answers[answer], default=None)
        times = answers[other] if other is not None else 0
        scores.append(ClassSeparation(label, rows, right[label], other, times))
    return sorted(scores, key=lambda score: (score.accuracy, score.label))


def suspects(labels: list[str | None], neighbours: Neighbours) -> list[Suspect]:
    """Rows whose neighbours mostly have one other label, the clearest first."""
    found = []
    for row, (label, near) in enumerate(zip(labels, neighbours.rows, strict=True)):
        votes = Counter(other for n in near if (other := labels[n]) is not None)
        if label is None or not votes:
            continue
        other, most = votes.most_common(1)[0]
        if other != label and most >= _SURE * votes.total():
            found.append(Suspect(row, other, most, votes[label], votes.total()))
    nearest = neighbours.similarity
    return sorted(found, key=lambda s: (s.own - s.votes, -float(nearest[s.row, 0]), s.row))


def near_groups(neighbours: Neighbours, threshold: float) -> list[list[int]]:
    """Rows connected by chains of near pairs, the largest group first."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(neighbours.rows)
    one, place = np.nonzero(neighbours.similarity >= threshold)
    other = neighbours.rows[one, place]
    graph = coo_array((np.ones(len(one), bool), (one, other)), (count, count))
    _, component = connected_components(graph, directed=False)
    order = np.argsort(component, kind="stable")
    borders = np.flatnonzero(np.diff(component[order])) + 1
    groups = [part.tolist() for part in np.split(order, borders) if len(part) > 1]
    return sorted(groups, key=lambda group: (-len(group), group[0]))
