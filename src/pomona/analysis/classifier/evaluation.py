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

__all__ = [
    "ClassScore", "ConfusedPair", "Evaluation", "Mistake", "calibration_error", "evaluate",
]  # fmt: skip

_MISTAKES = 20
_PAIRS = 20
_EXAMPLES = 6  # images of a pair
_BINS = 15  # as in Guo et al.


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
class ConfusedPair:
    """Two classes, of which images of the first are predicted as the second.

    Attributes:
        label: the label of the images.
        predicted: their predicted label.
        images: number of these images.
        of: number of tested images of the label.
        examples: the most confident of these mistakes.
    """

    label: str
    predicted: str
    images: int
    of: int
    examples: tuple[Mistake, ...] = ()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of a test.

    Attributes:
        labels: L names, sorted.
        confusion: (L, L) counts: rows by the label of the image, columns by the predicted label.
        calibration_error: expected calibration error, 0 to 1: see `calibration_error`.
        mistakes: the most confident mistakes.
        confused: the pairs of classes with the most mistakes, the largest first.
    """

    labels: tuple[str, ...]
    confusion: NDArray[np.int64]
    calibration_error: float
    mistakes: tuple[Mistake, ...] = ()
    confused: tuple[ConfusedPair, ...] = ()

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

    @property
    def baseline(self) -> float:
        """Return the majority-class baseline: the accuracy of one label for all images.

        It is the share of the most frequent label among the tested images.
        """
        return int(self.confusion.sum(axis=1).max()) / self.images

    def per_class(self) -> list[ClassScore]:
        """Return precision and recall of each class: the lowest recall first, untested ones last.

        Of equal recalls, the lower precision comes first.
        """
        predicted, actual = self.confusion.sum(axis=0), self.confusion.sum(axis=1)
        right = np.diagonal(self.confusion)
        scores = [
            ClassScore(
                label,
                int(actual[i]),
                float(right[i] / predicted[i]) if predicted[i] else None,
                float(right[i] / actual[i]) if actual[i] else None,
            )
            for i, label in enumerate(self.labels)
        ]
        return sorted(scores, key=lambda score: (_or_last(score.recall), _or_last(score.precision)))

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as JSON values."""
        from dataclasses import asdict

        return {
            "images": self.images,
            "right": self.right,
            "accuracy": self.accuracy,
            "interval_95_wilson": list(self.interval),
            "majority_class_baseline": self.baseline,
            "expected_calibration_error": self.calibration_error,
            "per_class": [asdict(score) for score in self.per_class()],
            "labels": list(self.labels),
            "confusion": self.confusion.tolist(),
            "mistakes": [asdict(mistake) for mistake in self.mistakes],
            "confused": [asdict(pair) for pair in self.confused],
        }


def _or_last(share: float | None) -> float:
    return 2.0 if share is None else share


def calibration_error(probabilities: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Return the expected calibration error of N predictions, 0 to 1.

    The predictions are put into 15 bins of equal width by their probability p. In each bin, the
    share of right predictions is compared with the mean of p:

        ECE = sum over the bins of  |bin| / N * |right share of the bin - mean p of the bin|

    (C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger: On Calibration of Modern Neural Networks, ICML
    2017, equations 3 and 5.) With few images it is too large: chance alone moves the right share.

    Args:
        probabilities: (N,) probability of each predicted label, 0 to 1.
        right: (N,) whether the prediction is right.
    """
    bins = np.ceil(probabilities * _BINS).astype(np.intp).clip(1, _BINS) - 1  # ((m - 1)/M, m/M]
    surplus = np.bincount(bins, right - probabilities, _BINS)
    return float(np.abs(surplus).sum() / len(probabilities))


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
    tested = np.flatnonzero(rows.parts == TEST)
    predicted, probability = _predict(classifier, vectors, rows, tested)
    actual = rows.codes[tested]
    confusion = np.zeros((len(rows.labels), len(rows.labels)), np.int64)
    np.add.at(confusion, (actual, predicted), 1)
    wrong = np.flatnonzero(actual != predicted)
    wrong = wrong[np.argsort(-probability[wrong], kind="stable")]  # the most confident first
    pairs = _largest_pairs(confusion)
    examples = {
        (label, guess): wrong[(actual[wrong] == label) & (predicted[wrong] == guess)][:_EXAMPLES]
        for label, guess in pairs
    }
    shown = np.unique(np.concatenate([wrong[:_MISTAKES], *examples.values()]))
    paths = dict(zip(shown.tolist(), _paths_of(vectors, tested[shown]), strict=True))

    def mistakes(which: NDArray[np.intp]) -> tuple[Mistake, ...]:
        return tuple(
            Mistake(
                paths[i], rows.labels[actual[i]], rows.labels[predicted[i]], float(probability[i])
            )
            for i in which.tolist()
        )

    confused = tuple(
        ConfusedPair(
            rows.labels[label],
            rows.labels[guess],
            int(confusion[label, guess]),
            int(confusion[label].sum()),
            mistakes(examples[label, guess]),
        )
        for label, guess in pairs
    )
    error = calibration_error(probability, actual == predicted)
    return Evaluation(rows.labels, confusion, error, mistakes(wrong[:_MISTAKES]), confused)


def _predict(
    classifier: Classifier, vectors: Vectors, rows: SplitRows, tested: NDArray[np.intp]
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return code and probability of the predicted label of each tested row."""
    code_of = {label: code for code, label in enumerate(rows.labels)}
    code_of_class = np.array([code_of[name] for name in classifier.classes], np.int32)
    codes, probability = np.empty(len(tested), np.int32), np.empty(len(tested))
    done = 0
    for block in vectors.rows_at(tested):
        found = classifier.probabilities(block.vectors)
        best = found.argmax(axis=1)
        codes[done : done + len(best)] = code_of_class[best]
        probability[done : done + len(best)] = found[np.arange(len(best)), best]
        done += len(best)
    return codes, probability


def _largest_pairs(confusion: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return label and predicted label of the largest counts off the diagonal, largest first."""
    off = confusion.copy()
    np.fill_diagonal(off, 0)
    largest = np.argsort(-off, axis=None, kind="stable")[: min(_PAIRS, np.count_nonzero(off))]
    rows, columns = np.unravel_index(largest, off.shape)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def _paths_of(vectors: Vectors, numbers: NDArray[np.intp]) -> list[str]:
    """Return the paths of rows by their numbers, which must be in ascending order."""
    paths: list[str] = []
    start = 0
    for block, _ in vectors.words():
        low, high = np.searchsorted(numbers, [start, start + len(block)])
        paths += block.take(numbers[low:high] - start).to_pylist()
        start += len(block)
    return paths
