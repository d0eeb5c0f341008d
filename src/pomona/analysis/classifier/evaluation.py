"""How well a classifier predicts the labels of images that it was not trained on."""

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
    """An image whose predicted label is wrong."""

    path: str
    label: str
    predicted: str
    probability: float


@dataclass(frozen=True, slots=True)
class ClassScore:
    """The scores of one class.

    Attributes:
        label: name of the class.
        images: number of tested images of the class.
        precision: share of the images predicted as this class that are of it; None if none is.
        recall: share of the images of this class that are predicted as it; None if none is tested.
    """

    label: str
    images: int
    precision: float | None
    recall: float | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of a test.

    Attributes:
        labels: L names, sorted.
        confusion: (L, L) counts: rows by the label of the image, columns by the predicted label.
        mistakes: the most confident mistakes.
    """

    labels: tuple[str, ...]
    confusion: NDArray[np.int64]
    mistakes: tuple[Mistake, ...] = ()

    @property
    def images(self) -> int:
        """Return the number of tested images."""
        return int(self.confusion.sum())

    @property
    def right(self) -> int:
        """Return the number of images whose predicted label is right."""
        return int(np.trace(self.confusion))

    @property
    def accuracy(self) -> float:
        """Return the share of images whose predicted label is right."""
        return self.right / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """Return Wilson's 95 % interval of the accuracy."""
        return wilson(self.right, self.images)

    def per_class(self) -> list[ClassScore]:
        """Return precision and recall of each class."""
        predicted, actual = self.confusion.sum(axis=0), self.confusion.sum(axis=1)
        right = np.diagonal(self.confusion)
        return [
            ClassScore(
                label,
                int(actual[i]),
                float(right[i] / predicted[i]) if predicted[i] else None,
                float(right[i] / actual[i]) if actual[i] else None,
            )
            for i, label in enumerate(self.labels)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as JSON values."""
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
    """Classify the test rows, streaming, and count right and wrong predictions.

    Images of classes that the classifier was not trained on count as wrong.

    Args:
        classifier: the classifier to test.
        vectors: the vectors of the table.
        rows: the parts and the labels of the table's rows.

    Raises:
        RunError: the table was changed during the test.
    """
    code_of = {label: code for code, label in enumerate(rows.labels)}
    code_of_class = np.array([code_of[name] for name in classifier.classes])
    count = len(rows.labels)
    confusion = np.zeros((count, count), np.int64)
    mistakes: list[Mistake] = []
    start = 0
    for block in vectors.blocks():
        block_rows = slice(start, start + len(block))
        start = block_rows.stop
        tested = np.flatnonzero(rows.parts[block_rows] == TEST)
        if not len(tested):
            continue
        probabilities = classifier.probabilities(block.vectors[tested])
        best = probabilities.argmax(axis=1)
        predicted, actual = code_of_class[best], rows.codes[block_rows][tested]
        np.add.at(confusion, (actual, predicted), 1)
        mistakes += [
            Mistake(
                block.paths[int(tested[i])].as_py(),
                rows.labels[actual[i]],
                rows.labels[predicted[i]],
                float(probabilities[i, best[i]]),
            )
            for i in np.flatnonzero(actual != predicted)
        ]
        mistakes = sorted(mistakes, key=lambda m: -m.probability)[:_MISTAKES]
    return Evaluation(rows.labels, confusion, tuple(mistakes))
