"""`train`: the training set, the test set, the evaluation, and what is refused."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import tables
from pomona.analysis.classifier import training
from pomona.analysis.classifier.evaluation import (
    ConfusedPair,
    Evaluation,
    Mistake,
    calibration_error,
)
from pomona.analysis.classifier.logistic_regression import fit
from pomona.analysis.classifier.regularization import GRID, Strength
from pomona.analysis.classifier.splitting import TEST, TRAIN, ShareSplit, parse_split
from pomona.analysis.figures.confusion import plot_confusion
from pomona.errors import ClassifierError, RunError, TableError, UsageError

pytest.importorskip("sklearn", reason="training needs scikit-learn: pip install '.[analysis]'")

CLASSES = ["Apple", "Kiwi", "Plum"]
FAILED = [("file:/fruits/Training/Kiwi/empty.jpg", "empty")]


def clouds(
    each: int, spread: float = 0.6, seed: int = 0
) -> tuple[NDArray[np.float32], list[str | None], list[str]]:
    """Vectors of three classes around three corners, far from zero and with unequal scales."""
    random = np.random.default_rng(seed)
    corners = np.eye(3, 6) * 3
    vectors, labels, paths = [], [], []
    for number in range(each):
        for corner, label in zip(corners, CLASSES, strict=True):
            vectors.append(corner + random.normal(size=6) * spread)
            labels.append(label)
            folder = "Training" if number % 4 else "Testing"
            paths.append(f"file:/fruits/{folder}/{label}/{number}.jpg")
    scaled = np.array(vectors) * [1, 1000, 1, 0.001, 1, 1] + 50
    return scaled.astype(np.float32), list(labels), paths


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tables.write(tmp_path_factory.mktemp("t") / "t", *clouds(40), failed=FAILED, parts=3)


@pytest.fixture(scope="module")
def trained(folder: Path) -> training.Training:
    return training.train(folder, split="Training/Testing")


def test_a_split_by_folders_trains_on_one_and_tests_on_the_other(
    trained: training.Training,
) -> None:
    assert trained.trained_on == 90
    assert trained.evaluation is not None
    assert trained.evaluation.images == 30
    assert trained.evaluation.accuracy > 0.9
    assert trained.failed == 1
    assert trained.classifier.classes == tuple(CLASSES)
    assert trained.converged


def test_random_labels_cannot_be_learned(tmp_path: Path) -> None:
    vectors, labels, paths = clouds(60, seed=3)
    np.random.default_rng(1).shuffle(labels)
    tables.write(tmp_path, vectors, labels, paths)
    trained = training.train(tmp_path).evaluation
    assert trained is not None
    assert trained.accuracy < 0.6  # chance is a third


def test_probabilities_equal_those_of_scikit_learn_on_standardised_vectors(
    folder: Path, trained: training.Training
) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = [row for row in tables.read(folder).to_pylist() if row["status"] == "ok"]
    training_rows = [row for row in rows if "/Training/" in row["path"]]
    reference = make_pipeline(
        StandardScaler(), LogisticRegression(C=trained.strength.value, max_iter=1000)
    ).fit(np.array([r["features"] for r in training_rows]), [r["label"] for r in training_rows])
    vectors = np.array([row["features"] for row in rows], np.float32)
    expected = reference.predict_proba(vectors)
    result = trained.classifier.probabilities(vectors)
    np.testing.assert_allclose(result, expected, atol=2e-3)
    np.testing.assert_allclose(result.sum(axis=1), 1)


def test_two_classes_have_a_row_of_coefficients_each(tmp_path: Path) -> None:
    vectors, labels, paths = clouds(20)
    two = [i for i, label in enumerate(labels) if label != "Plum"]
    tables.write(tmp_path, vectors[two], [labels[i] for i in two], [paths[i] for i in two])
    trained = training.train(tmp_path)
    assert trained.classifier.coefficients.shape == (2, 6)
    assert trained.evaluation is not None
    assert trained.evaluation.accuracy == 1


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("strength", [0.01, 10])
def test_a_fit_equals_that_of_scikit_learn_however_its_rows_are_cut(
    classes: int, strength: float
) -> None:
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(classes)
    codes = random.integers(classes, size=300).astype(np.int32)
    centres = random.normal(size=(classes, 8))
    rows = (centres[codes] + random.normal(size=(300, 8))).astype(np.float32)
    reference = LogisticRegression(C=strength, max_iter=1000).fit(rows, codes)
    for size in (300, 7):
        found = fit(
            lambda size=size: np.split(rows, range(size, 300, size)), codes, classes, strength
        )
        assert found.converged
        np.testing.assert_allclose(found.weights[:, :-1], reference.coef_, atol=1e-3)
        np.testing.assert_allclose(found.weights[:, -1], reference.intercept_, atol=1e-3)


@pytest.mark.parametrize(("value", "at_end"), [(GRID[0], True), (1.0, False), (GRID[-1], True)])
def test_the_end_of_the_grid_is_reported(value: float, at_end: bool) -> None:
    assert Strength(value, 5, 100, dict.fromkeys(GRID, 1.0)).at_end is at_end


def test_the_regularization_is_the_strongest_of_the_best(
    trained: training.Training, tmp_path: Path
) -> None:
    losses = trained.strength.log_losses
    near_best = [value for value in losses if losses[value] <= min(losses.values()) + 0.001]
    assert trained.strength.value == min(near_best)
    tables.write(tmp_path, *clouds(4, spread=0.001))  # few images, far apart: any C is too small
    assert training.train(tmp_path).strength.value == max(GRID) == 100


def test_a_table_larger_than_memory_gives_the_same_classifier(
    folder: Path, trained: training.Training
) -> None:
    found = training.train(folder, split="Training/Testing", memory_gib=0)
    assert found.in_file
    assert not trained.in_file
    assert found.classifier.to_bytes() == trained.classifier.to_bytes()


def test_temporary_vector_files_are_deleted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    training.train(folder, memory_gib=0)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_and_does_not_kill_the_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(RunError, match="No space left on device.*TMPDIR"):
        training.train(folder, memory_gib=0)


def test_row_order_does_not_affect_the_split(tmp_path: Path) -> None:
    vectors, labels, paths = clouds(30)
    order = np.random.default_rng(5).permutation(len(labels))
    tables.write(tmp_path / "a", vectors, labels, paths)
    shuffled = [labels[i] for i in order], [paths[i] for i in order]
    tables.write(tmp_path / "b", vectors[order], *shuffled, parts=4)
    a, b = (training.train(tmp_path / name).evaluation for name in "ab")
    assert a is not None
    assert b is not None
    np.testing.assert_array_equal(a.confusion, b.confusion)
    assert [score.images for score in a.per_class()] == [6, 6, 6]


@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    share=st.floats(0.01, 0.9),
    seed=st.integers(0, 3),
)
def test_a_share_of_each_class_is_tested_and_at_least_one_image_is_trained_on(
    counts: list[int], share: float, seed: int
) -> None:
    codes = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    codes = np.append(codes, -1).astype(np.int32)
    split = ShareSplit(share, seed)
    keys = np.array([split.key(f"file:/{i}") for i in range(len(codes))], np.uint64)
    parts = split.parts(codes, keys)
    assert parts[-1] == 0
    for code, count in enumerate(counts):
        here = parts[codes == code]
        tested = int((here == TEST).sum())
        assert tested == min(max(1, round(share * count)), count - 1)
        assert (here != 0).all()
        assert (here == TRAIN).any()


def test_a_different_seed_selects_different_images() -> None:
    codes = np.zeros(50, np.int32)
    drawn = [
        ShareSplit(0.2, seed).parts(
            codes, np.array([ShareSplit(0.2, seed).key(str(i)) for i in range(50)], np.uint64)
        )
        for seed in (0, 1)
    ]
    assert (drawn[0] != drawn[1]).any()


def test_without_a_test_set_nothing_is_tested(folder: Path) -> None:
    trained = training.train(folder, test_share=0)
    assert trained.evaluation is None
    assert trained.leaks is None
    assert trained.trained_on == 120


@pytest.mark.parametrize("copies", [0, 3])
def test_test_images_that_are_nearly_training_images_are_counted(
    tmp_path: Path, copies: int
) -> None:
    random = np.random.default_rng(1)
    vectors = random.normal(size=(80, 32)).astype(np.float32)
    labels = ["a" if row % 2 else "b" for row in range(80)]
    paths = [f"file:/x/{'Training' if row < 60 else 'Testing'}/{row}.jpg" for row in range(80)]
    vectors[60 : 60 + copies] = vectors[:copies] + 0.01
    folder = tables.write(tmp_path / "t", vectors, labels, paths, parts=3)
    leaks = training.train(folder, split="Training/Testing").leaks
    assert leaks is not None
    assert leaks.to_json() == {"compared": 20, "near": copies, "threshold": 0.8}


def test_a_class_missing_from_training_counts_as_wrong(tmp_path: Path) -> None:
    vectors, labels, paths = clouds(20)
    paths = [p.replace("Training", "Testing") if "Plum" in p else p for p in paths]
    tables.write(tmp_path, vectors, labels, paths)
    trained = training.train(tmp_path, split="Training/Testing")
    assert trained.classifier.classes == ("Apple", "Kiwi")
    assert trained.evaluation is not None
    plum = trained.evaluation.per_class()[0]
    assert (plum.label, plum.images, plum.precision, plum.recall) == ("Plum", 20, None, 0)
    assert {mistake.label for mistake in trained.evaluation.mistakes} == {"Plum"}


def test_a_class_with_one_image_is_trained_on_and_reported_as_untested(tmp_path: Path) -> None:
    vectors, labels, paths = clouds(12)
    tables.write(tmp_path, vectors[:25], [*labels[:24], "Rare"], paths[:25])
    trained = training.train(tmp_path)
    assert "Rare" in trained.classifier.classes
    assert trained.untested == ("Rare",)


def test_images_without_a_label_or_outside_both_folders_are_counted(tmp_path: Path) -> None:
    vectors, labels, paths = clouds(20)
    labels[:3] = [None] * 3
    paths[-5:] = [f"file:/fruits/More/Plum/{i}.jpg" for i in range(5)]
    tables.write(tmp_path, vectors, labels, paths)
    trained = training.train(tmp_path, split="Training/Testing")
    assert (trained.unlabelled, trained.outside) == (3, 5)
    assert trained.evaluation is not None
    assert trained.trained_on + trained.evaluation.images == 52


def test_too_few_images_for_cross_validation_use_the_middle_regularization(tmp_path: Path) -> None:
    vectors, labels, paths = clouds(2)
    tables.write(tmp_path, vectors, labels, paths)
    trained = training.train(tmp_path, test_share=0)
    assert trained.strength.folds == 2
    with pytest.raises(TableError, match="too few images"):
        training.train(tmp_path)  # one image of each class remains for training


# Evaluation --------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60))
def test_precision_and_recall_equal_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    have, given_labels = zip(*pairs, strict=True)
    confusion = np.zeros((3, 3), np.int64)
    np.add.at(confusion, (have, given_labels), 1)
    result = Evaluation(tuple(CLASSES), confusion, 0)
    precision, recall, _, images = precision_recall_fscore_support(
        have, given_labels, labels=[0, 1, 2], zero_division=np.nan
    )
    assert result.accuracy == pytest.approx(accuracy_score(have, given_labels))
    scores = sorted(result.per_class(), key=attrgetter("label"))
    assert [score.images for score in scores] == images.tolist()
    for score, p, r in zip(scores, precision, recall, strict=True):
        assert score.precision is None if np.isnan(p) else score.precision == pytest.approx(p)
        assert score.recall is None if np.isnan(r) else score.recall == pytest.approx(r)


@given(
    st.lists(
        st.tuples(st.floats(0, 1).map(lambda p: round(p, 3)), st.booleans()),
        min_size=1,
        max_size=80,
    )
)
def test_the_calibration_error_equals_that_of_scikit_learns_curve(
    predictions: list[tuple[float, bool]],
) -> None:
    from sklearn.calibration import calibration_curve

    probabilities, right = map(np.array, zip(*predictions, strict=True))
    shares, means = calibration_curve(right, probabilities, n_bins=15)
    edges = np.linspace(0, 1, 16)
    counts = np.bincount(np.searchsorted(edges[1:-1], probabilities), minlength=15)
    expected = (counts[counts > 0] * np.abs(shares - means)).sum() / len(right)
    assert calibration_error(probabilities, right) == pytest.approx(expected)


def test_probabilities_that_are_too_sure_have_a_calibration_error() -> None:
    right = np.arange(100) < 70
    assert calibration_error(np.full(100, 0.7), right) == pytest.approx(0)
    assert calibration_error(np.full(100, 0.95), right) == pytest.approx(0.25)


def test_the_baseline_is_scikit_learns_dummy_classifier() -> None:
    from sklearn.dummy import DummyClassifier

    confusion = np.array([[5, 1, 0], [2, 9, 3], [0, 0, 4]])
    labels = np.repeat(np.arange(3), confusion.sum(axis=1))
    dummy = DummyClassifier(strategy="most_frequent").fit(labels[:, None], labels)
    baseline = Evaluation(tuple(CLASSES), confusion, 0).baseline
    assert baseline == pytest.approx(dummy.score(labels[:, None], labels))


def test_the_worst_class_comes_first_and_an_untested_one_last() -> None:
    confusion = np.array([[9, 0, 1, 0], [0, 0, 0, 0], [5, 0, 5, 0], [0, 0, 0, 8]])
    scores = Evaluation(("a", "untested", "worst", "best"), confusion, 0).per_class()
    assert [score.label for score in scores] == ["worst", "a", "best", "untested"]


def test_the_most_confused_classes_come_with_their_images(folder: Path) -> None:
    vectors, labels, paths = clouds(40)
    swapped = ["Plum" if label == "Kiwi" and n < 15 else label for n, label in enumerate(labels)]
    tables.write(folder.parent / "swapped", vectors, swapped, paths)
    found = training.train(folder.parent / "swapped", split="Training/Testing").evaluation
    assert found is not None
    pair = found.confused[0]
    assert (pair.label, pair.predicted) == ("Plum", "Kiwi")
    code = {label: number for number, label in enumerate(found.labels)}
    assert pair.images == found.confusion[code["Plum"], code["Kiwi"]]
    assert pair.of == found.confusion[code["Plum"]].sum()
    assert {(e.label, e.predicted) for e in pair.examples} == {("Plum", "Kiwi")}
    assert all("/Testing/Kiwi/" in example.path for example in pair.examples)
    assert set(found.mistakes) >= set(pair.examples)
    counts = [each.images for each in found.confused]
    assert sum(counts) == found.images - found.right
    assert counts == sorted(counts, reverse=True)


def test_the_interval_is_wilsons() -> None:
    result = Evaluation(("a", "b"), np.array([[45, 5], [5, 45]]), 0)
    low, high = result.interval
    z, n, p = 1.959964, 100, 0.9
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert (low, high) == (pytest.approx(centre - half), pytest.approx(centre + half))
    _, all_right = Evaluation(("a", "b"), np.diag([5, 5]), 0).interval
    assert all_right == 1


ODD = ["a$b$", "<script>", "ÄÖ\n"]
MANY = [f"class {i}" for i in range(30)]


@pytest.mark.parametrize(
    ("labels", "form"),
    [
        (["a$b$", "<script>", "ÄÖ\n"], "png"),
        (["a", "b"], "svg"),
        (["a", "b"], "pdf"),
        (MANY, "png"),
    ],
    ids=["odd names", "svg", "pdf", "many names"],
)
def test_the_confusion_matrix_is_drawn_for_any_names(
    tmp_path: Path, labels: list[str], form: str
) -> None:
    confusion = np.random.default_rng(0).integers(0, 9, (len(labels), len(labels)))
    file = tmp_path / f"confusion.{form}"
    plot_confusion(Evaluation(tuple(labels), confusion, 0), str(file))
    assert file.stat().st_size > 1000
    if form == "png":
        with Image.open(file) as image:
            colours = image.convert("RGB").getcolors(1_000_000)
        assert colours is not None
        assert len(colours) > 5  # cells of more and of fewer images


@pytest.mark.parametrize("found", [True, False])
def test_of_many_classes_the_confused_images_are_drawn_or_else_bars(
    tmp_path: Path, found: bool
) -> None:
    green = (10, 200, 60)
    if found:
        Image.new("RGB", (40, 30), green).save(tmp_path / "0.png")
    examples = tuple(Mistake(f"file:{tmp_path}/{i}.png", "a$", "b", 0.9) for i in range(2))
    pairs = (ConfusedPair("a$", "b", 2, 3, examples), ConfusedPair("c", "d", 1, 3))
    confusion = np.diag(np.ones(30, int))
    plot_confusion(Evaluation(tuple(MANY), confusion, 0, examples, pairs), tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        colours = dict(map(reversed, image.convert("RGB").getcolors(10**6) or []))  # type: ignore[arg-type]
    assert (colours.get(green, 0) > 1000) is found
    assert (colours.get((0, 114, 178), 0) > 1000) is not found


@pytest.mark.parametrize("name", ["confusion.gif", "confusion", "nowhere/confusion.png"])
def test_an_unwritable_plot_is_refused(tmp_path: Path, name: str) -> None:
    confusion = Evaluation(("a", "b"), np.eye(2, dtype=int), 0)
    with pytest.raises(UsageError, match="expected the name of a|there is no folder"):
        plot_confusion(confusion, tmp_path / name)
    assert not list(tmp_path.iterdir())


# Refused requests --------------------------------------------------------------------------------


def test_a_table_without_labels_is_refused(tmp_path: Path) -> None:
    tables.write(tmp_path, np.eye(4), [None] * 4)
    with pytest.raises(TableError, match="has no labels on its 4 vectors"):
        training.train(tmp_path)


def test_a_table_with_one_class_is_refused(tmp_path: Path) -> None:
    tables.write(tmp_path, np.eye(4), ["Kiwi"] * 4)
    with pytest.raises(TableError, match="one class to train on, 'Kiwi'"):
        training.train(tmp_path)


@pytest.mark.parametrize("text", ["Training", "a/b/c", "/b", "a/", "a/a"])
def test_a_split_without_exactly_two_names_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="Training/Testing"):
        parse_split(text)


def test_a_split_of_missing_folders_is_refused(folder: Path) -> None:
    with pytest.raises(TableError, match="no labelled image in a folder val"):
        training.train(folder, split="Training/val")


def test_a_split_with_overlapping_names_is_refused(folder: Path) -> None:
    with pytest.raises(TableError, match="both names match folders of file:/fruits/Te"):
        training.train(folder, split="fruits/Testing")


def test_folders_may_be_given_as_patterns(folder: Path) -> None:
    assert training.train(folder, split="Tr*/Te*").trained_on == 90


def test_a_table_that_loses_rows_during_reading_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tables.write(tmp_path / "t", *clouds(12), parts=3)
    split = training.split_rows

    def remove_one_afterwards(*given: Any) -> object:
        result = split(*given)
        next(table.glob("*.parquet")).unlink()
        return result

    monkeypatch.setattr(training, "split_rows", remove_one_afterwards)
    with pytest.raises(RunError, match="changed while it was read"):
        training.train(table)


def test_an_encoder_that_did_not_make_the_table_is_refused(folder: Path, encoder: object) -> None:
    with pytest.raises(ClassifierError, match="made by another encoder"):
        training.train(folder, encoder=encoder)  # type: ignore[arg-type]
