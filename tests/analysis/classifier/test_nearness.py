"""The nearness of images to those of the training: small for images of none of the classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tables
from pomona.analysis.classifier import nearness as module
from pomona.analysis.classifier.classifier import Classifier
from pomona.analysis.classifier.nearness import nearest_others, nearness
from pomona.analysis.classifier.training import train
from pomona.analysis.vectors import unit
from pomona.classification import classify
from pomona.errors import ClassifierError

pytest.importorskip("sklearn", reason="training needs scikit-learn: pip install '.[analysis]'")

CORNERS = np.eye(4, 8)


def images(corner: int, count: int, seed: int) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).normal(size=(count, 8)) * 0.1
    return (CORNERS[corner] + noise).astype(np.float32)


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """Trained on 200 images of three of the four corners."""
    vectors = np.concatenate([images(corner, 200, corner) for corner in range(3)])
    labels = [str(corner) for corner in range(3) for _ in range(200)]
    table = tables.write(tmp_path_factory.mktemp("t") / "t", vectors, labels)
    return train(table, test_share=0).classifier


def test_an_unknown_class_is_not_near_though_its_probability_is_high(probe: Classifier) -> None:
    unknown = 3 * images(3, 100, 10) + images(0, 100, 11)
    assert np.median(probe.probabilities(unknown).max(axis=1)) > 0.9
    assert (probe.nearness(unknown) < 0.01).all()


def test_the_nearness_of_new_images_of_the_classes_is_spread_evenly(probe: Classifier) -> None:
    known = np.concatenate([images(corner, 1000, 20 + corner) for corner in range(3)])
    found = probe.nearness(known)
    for share in (0.05, 0.25, 0.5, 0.75):
        assert abs((found <= share).mean() - share) < 0.06


def test_the_nearness_equals_that_of_scikit_learns_neighbours() -> None:
    from sklearn.neighbors import NearestNeighbors

    examples, vectors = unit(images(0, 50, 1)), images(0, 20, 2) * 7
    brute = NearestNeighbors(metric="cosine", algorithm="brute").fit(examples)
    others = brute.kneighbors(examples, 2)[0][:, 1]
    nearest = brute.kneighbors(vectors, 1)[0][:, 0]
    expected = [(1 + (others >= distance).sum()) / 51 for distance in nearest]
    np.testing.assert_allclose(nearness(vectors, examples, nearest_others(examples)), expected)


def test_each_class_has_its_share_of_the_examples_and_at_least_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST", 40)
    vectors = np.concatenate([images(0, 300, 0), images(1, 100, 1), images(2, 3, 2)])
    labels = ["a"] * 300 + ["b"] * 100 + ["c"] * 3
    table = tables.write(tmp_path / "t", vectors, labels)
    examples = train(table, test_share=0).classifier.examples
    assert examples is not None
    assert np.bincount(examples[:, :3].argmax(axis=1)).tolist() == [30, 10, 2]
    np.testing.assert_allclose(np.linalg.norm(examples, axis=1), 1, rtol=1e-6)


def test_examples_survive_a_round_trip(probe: Classifier, tmp_path: Path) -> None:
    probe.save(tmp_path / "c")
    restored = Classifier.load(tmp_path / "c")
    vectors = images(0, 10, 5)
    np.testing.assert_array_equal(restored.nearness(vectors), probe.nearness(vectors))
    assert restored.to_bytes() == probe.to_bytes()


def test_classify_gives_the_nearness_on_request(probe: Classifier, tmp_path: Path) -> None:
    failed = [("file:/pictures/0/empty.jpg", "empty")]
    vectors = images(0, 3, 5)
    table = tables.write(tmp_path / "t", vectors, ["0"] * 3, failed=failed)
    found = [answer.nearness for answer in classify(probe, table, unlike=True)]
    assert found[1] is None
    assert [found[0], *found[2:]] == probe.nearness(vectors).tolist()
    assert {answer.nearness for answer in classify(probe, table)} == {None}


def test_a_classifier_without_images_has_no_nearness(probe: Classifier, tmp_path: Path) -> None:
    table = tables.write(tmp_path / "t", images(0, 3, 5), ["0"] * 3)
    with pytest.raises(ClassifierError, match="`unlike` compares images with those of the train"):
        classify(replace(probe, examples=None), table, unlike=True)


@pytest.mark.parametrize("examples", [np.ones((2, 7)), np.full((2, 8), np.nan)])
def test_examples_that_do_not_fit_are_refused(
    probe: Classifier, examples: NDArray[np.float32]
) -> None:
    with pytest.raises(ClassifierError, match="do not fit|finite"):
        replace(probe, examples=examples.astype(np.float32))
