"""Zero-shot classification: labels in words, without training."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path

import numpy as np
import pytest

import pomona
from command_line import run
from pomona.analysis.classifier.classifier import Classifier
from pomona.errors import ClassifierError, EncoderError, UsageError
from text_towers import ANSWERS, FOLDERS, IMAGES, encoder_in

LABELS = ANSWERS["labels"]
BEST = {
    name: [LABELS[place] for place in np.argmax(ANSWERS[name]["probabilities"], axis=1)]
    for name in ("clip", "siglip")
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images of the goldens, and a broken one."""
    folder = tmp_path_factory.mktemp("photos")
    for number, image in enumerate(IMAGES):
        image.save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_images_get_the_label_and_probability_of_transformers(photos: Path, name: str) -> None:
    classifier = pomona.zero_shot(LABELS, encoder_in(name), ANSWERS["template"])
    found = list(pomona.classify(classifier, photos))
    good = [each for each in found if each.status == "ok"]
    assert [each.label for each in good] == BEST[name]
    expected = np.max(ANSWERS[name]["probabilities"], axis=1)
    assert np.abs(expected - [each.probability for each in good]).max() < 1e-4
    assert [each.status for each in found if each.status != "ok"] == ["unsupported"]


def test_a_zero_shot_classifier_can_be_saved(tmp_path: Path, photos: Path) -> None:
    made = pomona.zero_shot(LABELS, encoder_in("siglip"))
    made.save(tmp_path / "words.classifier")
    read = Classifier.load(tmp_path / "words.classifier")
    vectors = encoder_in("siglip").embed(IMAGES)
    assert np.array_equal(read.probabilities(vectors), made.probabilities(vectors))
    assert list(pomona.classify(read, photos)) == list(pomona.classify(made, photos))


def test_the_default_sentence_is_that_of_transformers() -> None:
    vectors = encoder_in("clip").embed(IMAGES)
    given = pomona.zero_shot(LABELS, encoder_in("clip"), "This is a photo of {}.")
    default = pomona.zero_shot(LABELS, encoder_in("clip"))
    assert np.array_equal(given.probabilities(vectors), default.probabilities(vectors))


@pytest.mark.parametrize("labels", [[], ["apple"], ["apple", "apple"], "apple"])
def test_fewer_than_two_labels_are_refused(labels: list[str]) -> None:
    with pytest.raises(ClassifierError, match="give two or more, which all differ"):
        pomona.zero_shot(labels, encoder_in("clip"))


def test_a_template_without_a_place_for_the_label_is_refused() -> None:
    with pytest.raises(UsageError, match="write {} where the label belongs"):
        pomona.zero_shot(LABELS, encoder_in("clip"), "a photo")


def test_braces_in_labels_and_templates_are_text() -> None:
    classifier = pomona.zero_shot(["{x}", "{0}"], encoder_in("clip"), "{} {y}")
    assert classifier.classes == ("{x}", "{0}")


def test_an_encoder_for_images_only_is_refused() -> None:
    with pytest.raises(EncoderError, match="is for images only"):
        pomona.zero_shot(LABELS, encoder_in("clip").for_images())


@pytest.mark.parametrize("values", [{"probability": "none"}, {"unit_vectors": 1}])
def test_an_unknown_form_is_refused(values: dict[str, object]) -> None:
    made = pomona.zero_shot(LABELS, encoder_in("clip"))
    with pytest.raises(ClassifierError, match="is unknown"):
        Classifier(**{**vars(made), **values})  # type: ignore[arg-type]


# The command -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("encoder") / "clip.encoder"
    encoder_in("clip").save(file)
    return str(file)


WORDS = ("--labels", ",".join(LABELS))


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Run:
    return lambda *arguments: run(capfd, *arguments)


def labels_in(lines: str) -> list[str]:
    """Return the labels of the images that have one, in the order of their paths."""
    rows = sorted(csv.DictReader(lines.splitlines()), key=itemgetter("path"))
    return [row["label"] for row in rows if row["status"] == "ok"]


def test_the_command_classifies_images_and_tables_alike(
    photos: Path, clip_file: str, tmp_path: Path, command: Run
) -> None:
    table = tmp_path / "features"
    pomona.extract(photos, table, encoder=clip_file)
    words = (*WORDS, "--template", ANSWERS["template"], "--encoder", clip_file)
    _, of_images, _ = command("classify", photos, *words)
    _, of_table, _ = command("classify", table, *words)
    assert sorted(of_images.splitlines()) == sorted(of_table.splitlines())
    assert labels_in(of_images) == BEST["clip"]
    _, answer, _ = command("classify", table, *words, "--json")
    found = sorted(json.loads(answer)["images"], key=itemgetter("path"))
    assert [each["label"] for each in found if each["label"]] == BEST["clip"]


def test_a_table_of_a_folder_needs_no_encoder(
    photos: Path,
    tmp_path: Path,
    command: Run,
    cache: Path,  # noqa: ARG001 - it has the encoder
) -> None:
    table = tmp_path / "features"
    pomona.extract(photos, table, encoder=FOLDERS / "siglip")
    _, found, _ = command("classify", table, *WORDS, "--template", ANSWERS["template"])
    assert labels_in(found) == BEST["siglip"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["PHOTOS", *WORDS], "need an encoder with a text tower: give --encoder"),
        (["a.classifier", "PHOTOS", *WORDS], "--labels replaces CLASSIFIER"),
        (["PHOTOS"], "expected CLASSIFIER and SOURCE, got 1 argument"),
        (["a", "b", "c"], "too many arguments, from 'c' on: SOURCE is one argument"),
        (["a", "PHOTOS", "--template", "{}"], "--template is for --labels"),
        (["PHOTOS", "--labels", "apple", "--encoder", "CLIP"], "give two or more"),
        (["PHOTOS", *WORDS, "--weights", "x.h5"], "--weights has no effect with --labels"),
        (["PHOTOS", *WORDS, "--encoder", "missing.encoder"], "cannot read the encoder"),
        (["missing", *WORDS, "--encoder", "CLIP"], "missing"),
    ],
)
def test_bad_use_is_one_line_and_code_2(
    photos: Path, clip_file: str, arguments: list[str], message: str, command: Run
) -> None:
    places = {"PHOTOS": str(photos), "CLIP": clip_file}
    code, out, err = command("classify", *(places.get(each, each) for each in arguments))
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
