"""How well a classifier does on images that it has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.analysis.classifier.splitting import TEST
from pomona.analysis.classifier.wilson import wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.analysis.classifier.classifier import Classifier
    from pomona.analysis.classifier.splitting import SplitRows
    from pomona.analysis.vectors import Vectors

__all__ = ["ClassScore", "Evaluation", "Mistake", "evaluate"]

_MISTAKES = 20


@dataclass(frozen=True, slots=True)
class Mistake:
    """An image that was given another label than it has."""

    path: str
    label: str
    predicted: str
    probability: float


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How one class fared.

    Attributes:
        label: its name.
        images: of the class, that were tested.
        precision: of those that were given this label, the share that has it; None if none was.
        recall: of those that have this label, the share that was given it; None if none has.
    """

    label: str
    images: int
    precision: float | None
    recall: float | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came of a test.

    Attributes:
        labels: L names, sorted.
        confusion: (L, L) counts: rows by the label that images have, columns by the one given.
        mistakes: the most confident ones.
    """

    labels: tuple[str, ...]
    confusion: NDArray[np.int64]
    mistakes: tuple[Mistake, ...] = ()

    @property
    def images(self) -> int:
        """How many were tested."""
        return int(self.confusion.sum())

    @property
    def right(self) -> int:
        """How many were given the label that they have."""
        return int(np.trace(self.confusion))

    @property
    def accuracy(self) -> float:
        """The share that was given the label that it has."""
        return self.right / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        return wilson(self.right, self.images)

    def per_class(self) -> list[ClassScore]:
        """Precision and recall of each class."""
        given, have = self.confusion.sum(axis=0), self.confusion.sum(axis=1)
        right = np.diagonal(self.confusion)
        return [
            ClassScore(
                label,
                int(have[i]),
                float(right[i] / given[i]) if given[i] else None,
                float(right[i] / have[i]) if have[i] else None,
            )
            for i, label in enumerate(self.labels)
        ]

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON knows it."""
        from dataclasses import asdict

        return {
            "images": self.images,
            "right": self.right,
            "accuracy": self.accuracy,
            "interval_95_wilson": list(self.interval),
            "per_class": [asdict(score) for score in self.per_class()],
            "labels": list(self.labels),
            "confusion": self.confusion.tolist(),
            "mistakes": [asdict(mistake) for mistake in self.mistakes],
        }


def evaluate(classifier: Classifier, vectors: Vectors, rows: SplitRows) -> Evaluation:
    """Classify the rows to test on, streaming, and count.

    Images of classes that the classifier was not trained on count as wrong.

    Args:
        classifier: what to test.
        vectors: of the table.
        rows: which of them to test on, and their labels.

    Raises:
        RunError: the table was changed in the meantime.
    """
    code_of = {label: code for code, label in enumerate(rows.labels)}
    code_of_class = np.array([code_of[name] for name in classifier.classes])
    many = len(rows.labels)
    confusion = np.zeros((many, many), np.int64)
    mistakes: list[Mistake] = []
    start = 0
    for block in vectors.blocks():
        here = slice(start, start + len(block))
        start = here.stop
        tested = np.flatnonzero(rows.parts[here] == TEST)
        if not len(tested):
            continue
        probabilities = classifier.probabilities(block.vectors[tested])
        best = probabilities.argmax(axis=1)
        given, have = code_of_class[best], rows.codes[here][tested]
        np.add.at(confusion, (have, given), 1)
        mistakes += [
            Mistake(
                block.paths[int(tested[i])].as_py(),
                rows.labels[have[i]],
                rows.labels[given[i]],
                float(probabilities[i, best[i]]),
            )
            for i in np.flatnonzero(have != given)
        ]
        mistakes = sorted(mistakes, key=lambda m: -m.probability)[:_MISTAKES]
    return Evaluation(rows.labels, confusion, tuple(mistakes))
