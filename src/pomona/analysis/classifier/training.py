"""A table of labelled vectors -> a classifier: logistic regression, a linear probe.

The vectors to train on are in memory, or in a file if they are too large. Both give the same blocks
to the same solver, so both give the same classifier.
"""

from __future__ import annotations

import os
import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.analysis.classifier.classifier import Classifier
from pomona.analysis.classifier.evaluation import Evaluation, evaluate
from pomona.analysis.classifier.leaks import Leaks, find_leaks
from pomona.analysis.classifier.logistic_regression import block_rows, fit
from pomona.analysis.classifier.nearness import choose_examples
from pomona.analysis.classifier.regularization import Strength, choose_strength
from pomona.analysis.classifier.splitting import TEST, TRAIN, ShareSplit, parse_split, split_rows
from pomona.analysis.classifier.training_data import standardise
from pomona.analysis.table_encoder import refuse_projected
from pomona.analysis.vectors import open_vectors
from pomona.encoder.encoder import Encoder
from pomona.errors import ClassifierError, UsageError
from pomona.extras import check_extra
from pomona.messages import count_of
from pomona.notebook import html_card, html_pairs, html_table
from pomona.progress import Progress, Snapshot, no_progress
from pomona.table.differences import differences
from pomona.table.feature_table import FeatureTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.analysis.classifier.splitting import FolderSplit

__all__ = ["Training", "train"]

_SMALL_PRODUCT = 2**30
"""Fewer multiplications in a block are faster in one thread: with two, a pass over 2 million x 32
for 10 classes took 13 s of two busy cores in place of 0.5 s."""


@dataclass(frozen=True, slots=True)
class Training:
    """The result of a training.

    Attributes:
        classifier: the classifier, ready to save.
        evaluation: on the images to test on; None if there are none.
        leaks: test images that are nearly the same as training images; None if none are tested.
        strength: how the strength of the regularisation was chosen.
        trained_on: number of images that it was trained on.
        unlabelled: number of images with a vector and without a label.
        outside: number of images in neither folder of a split.
        failed: number of images without a vector.
        untested: classes with too few images to test on any.
        in_file: whether the vectors were in a file.
        converged: whether the solver converged.
        seconds: duration.
    """

    classifier: Classifier
    evaluation: Evaluation | None
    leaks: Leaks | None
    strength: Strength
    trained_on: int
    unlabelled: int
    outside: int
    failed: int
    untested: tuple[str, ...]
    in_file: bool
    converged: bool
    seconds: float = field(compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the object that `pomona train --json` prints."""
        return {
            "classes": list(self.classifier.classes),
            "trained_on": self.trained_on,
            "unlabelled": self.unlabelled,
            "outside": self.outside,
            "failed": self.failed,
            "untested": list(self.untested),
            "strength": self.strength.to_json(),
            "in_file": self.in_file,
            "converged": self.converged,
            "encoder": self.classifier.fingerprint,
            "seconds": round(self.seconds, 3),
            "evaluation": self.evaluation.to_json() if self.evaluation else None,
            "leaks": self.leaks.to_json() if self.leaks else None,
        }

    def _repr_html_(self) -> str:
        facts = html_pairs("training", {**self.to_json(), "evaluation": None})
        if not self.evaluation:
            return html_card(f"Trained on {count_of(self.trained_on, 'image')}, not tested", facts)
        low, high = self.evaluation.interval
        rows = (
            [score.label, score.images, _rounded(score.precision), _rounded(score.recall)]
            for score in self.evaluation.per_class()
        )
        return html_card(
            f"Accuracy {self.evaluation.accuracy:.4f} (95 % Wilson {low:.4f} to {high:.4f}) on "
            f"{count_of(self.evaluation.images, 'image')}, trained on {self.trained_on:,}",
            html_table(["class", "images", "precision", "recall"], rows),
            facts,
        )


def _rounded(share: float | None) -> str:
    return "-" if share is None else f"{share:.3f}"


def train(  # noqa: PLR0913 - the training's settings, each with a sensible default
    table: FeatureTable | str | os.PathLike[str],
    *,
    split: str | None = None,
    test_share: float = 0.2,
    seed: int = 0,
    memory_gib: float = 2.0,
    encoder: Encoder | str | os.PathLike[str] | None = None,
    progress: Progress = no_progress,
) -> Training:
    """Train a linear classifier on the labelled vectors of a feature table, and test it.

    Args:
        table: a feature table, its path or URI.
        split: names of the folders to train and to test on: `Training/Testing`. By default a
            hash of the paths selects a share of each class to test on.
        test_share: share of each class to test on, 0 to below 1; 0 tests nothing.
        seed: of the random choices, 0 to 2**32 - 1.
        memory_gib: training vectors that take more are stored in an unnamed file in `$TMPDIR`
            during the training.
        encoder: the encoder of the table, or its path, to be stored in the classifier's file. The
            file can then classify images on any machine.
        progress: called with the progress.

    Raises:
        TableError: it is not a feature table, or has no labels, one class, or too few images.
        ClassifierError: the encoder is not the one that made the table.
        UsageError: scikit-learn is not installed, or an option is not valid.
        RunError: a run changed the table during the training, or there is no space for the file.
    """
    started = time.monotonic()
    _check_installed()
    from threadpoolctl import threadpool_limits

    if not 0 <= test_share < 1:
        raise UsageError(f"the share to test on is {test_share}, expected 0 to below 1")
    if not 0 <= seed < 2**32:
        raise UsageError(f"the seed is {seed}, expected 0 to 2**32 - 1")
    how: FolderSplit | ShareSplit = parse_split(split) if split else ShareSplit(test_share, seed)
    name = str(table)
    vectors = open_vectors(FeatureTable.of(table))
    inside = _open_encoder(encoder, vectors.provenance, name)
    rows = split_rows(vectors, how)
    present, codes = _numbered(rows.codes[rows.parts == TRAIN], len(rows.labels))
    classes = tuple(rows.labels[code] for code in present)
    with closing(standardise(vectors, rows, memory_gib, progress)) as data:
        with threadpool_limits(1, "blas"):
            strength = choose_strength(data, codes, seed, progress)
        progress(Snapshot("training", 0, 1))
        rows_at_once = min(data.rows, block_rows(vectors.dimension, len(classes)))
        product = rows_at_once * vectors.dimension * len(classes)
        with threadpool_limits(1 if product < _SMALL_PRODUCT else None, "blas"):
            found = fit(lambda: data.blocks(len(classes)), codes, len(classes), strength.value)
    coefficients, intercept = _for_softmax(found.weights)
    probe = Classifier(classes, data.mean, data.scale, coefficients, intercept, vectors.provenance)
    examples = choose_examples(vectors, rows, seed)
    progress(Snapshot("testing", 0, 1))
    is_tested = bool((rows.parts == TEST).any())
    evaluation = evaluate(probe, vectors, rows) if is_tested else None
    leaks = find_leaks(vectors, rows, progress) if is_tested else None
    trained, tested = rows.counts(TRAIN), rows.counts(TEST)
    facts = {
        "table": name,
        "images": int(trained.sum()),
        "split": split or f"{test_share:g} of each class, seed {seed}",
        "strength": strength.value,
        "accuracy": evaluation.accuracy if evaluation else None,
        "interval_95_wilson": list(evaluation.interval) if evaluation else None,
        "tested_on": evaluation.images if evaluation else 0,
    }
    return Training(
        replace(probe, training=facts, encoder=inside, examples=examples),
        evaluation,
        leaks,
        strength,
        trained_on=int(trained.sum()),
        unlabelled=rows.unlabelled,
        outside=rows.outside,
        failed=vectors.all_rows - vectors.rows,
        untested=tuple(rows.labels[code] for code in np.flatnonzero((tested == 0) & (trained > 0))),
        in_file=data.in_file,
        converged=found.converged,
        seconds=time.monotonic() - started,
    )


def _check_installed() -> None:
    check_extra("analysis", "training needs scikit-learn", "sklearn", "threadpoolctl")


def _open_encoder(
    encoder: Encoder | str | os.PathLike[str] | None,
    provenance: dict[str, str],
    table: str,
) -> Encoder | None:
    if encoder is None:
        return None
    refuse_projected(provenance, "leave the encoder out")
    loaded = encoder if isinstance(encoder, Encoder) else Encoder.load(encoder)
    if loaded.fingerprint != provenance["fingerprint"]:
        raise ClassifierError(
            f"{table} was made by another encoder "
            f"({provenance['fingerprint'][:12]}) than `encoder` ({loaded.fingerprint[:12]}), and "
            f"they differ in {differences(provenance, loaded.provenance())}: give the one that "
            "made the table, or none"
        )
    return loaded


def _numbered(codes: NDArray[np.int32], labels: int) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """Return the codes that occur, K of them, and each row's index among these."""
    present = np.flatnonzero(np.bincount(codes, minlength=labels))
    numbers = np.empty(labels, np.int32)
    numbers[present] = np.arange(len(present))
    return present, numbers[codes]


def _for_softmax(weights: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a row for each class; for two classes, a fit has a row of the second only."""
    if len(weights) == 1:
        weights = np.vstack([np.zeros_like(weights), weights])
    return weights[:, :-1].astype(np.float32), weights[:, -1].astype(np.float32)
