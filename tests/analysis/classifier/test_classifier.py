"""The classifier file and `classify`: which label each image gets, and with which encoder."""

from __future__ import annotations

import csv
import io
import json
import shutil
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import drawn
import object_store
import pomona
import tables
from pomona.analysis.classifier.classifier import Classifier
from pomona.analysis.projection import project
from pomona.classification import Prediction, classify
from pomona.cli import main as cli
from pomona.cli.classify import Columns, print_csv
from pomona.encoder.encoder import Encoder
from pomona.errors import ClassifierError, EncoderError, SourceError, TableError, UsageError
from pomona.table.feature_table import FeatureTable

MADE = Classifier(
    ("Kiwi", "Plum"),
    np.array([1, 2, 3], np.float32),
    np.array([1, 0.5, 2], np.float32),
    np.array([[1, 0, 0], [0, 1, -1]], np.float32),
    np.array([0.5, -0.5], np.float32),
    {"fingerprint": "a" * 64, "model": "drawn", "weights": "untrained:0", "decode": "exact"},
    {"images": 7},
)
CONTENT = MADE.to_bytes()


# The file ----------------------------------------------------------------------------------------


def test_a_classifier_survives_a_round_trip_through_its_file(tmp_path: Path) -> None:
    MADE.save(tmp_path / "c")
    restored = Classifier.load(tmp_path / "c")
    assert restored.to_bytes() == CONTENT
    assert (restored.classes, restored.provenance, restored.training) == (
        MADE.classes,
        MADE.provenance,
        MADE.training,
    )
    assert [file.name for file in tmp_path.iterdir()] == ["c"]


def test_probabilities_follow_the_formula() -> None:
    vectors = np.array([[2, 2, 3], [1, 3, 1]], np.float32)
    logits = np.array([[1.5, -0.5], [0.5, 2.5]])
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(MADE.probabilities(vectors), expected)


def test_the_encoder_is_embedded_in_the_classifier(encoder: Encoder) -> None:
    wide = np.ones(encoder.dimension, np.float32)
    classifier = replace(
        MADE,
        mean=wide,
        scale=wide,
        coefficients=np.stack([wide, wide]),
        provenance=encoder.provenance(),
        encoder=encoder,
    )
    restored = Classifier.from_bytes(classifier.to_bytes())
    assert restored.encoder is not None
    assert restored.encoder.fingerprint == encoder.fingerprint
    with pytest.raises(ClassifierError, match="another encoder"):
        replace(classifier, provenance=MADE.provenance)


@given(st.binary(max_size=200).filter(lambda content: content[:7] != CONTENT[:7]))
def test_bytes_that_are_not_a_classifier_are_refused(content: bytes) -> None:
    with pytest.raises(ClassifierError, match="not a Pomona classifier"):
        Classifier.from_bytes(content)


@given(at=st.integers(8, len(CONTENT) - 1), flip=st.integers(1, 255))
def test_a_changed_byte_is_detected(at: int, flip: int) -> None:
    content = bytearray(CONTENT)
    content[at] ^= flip
    with pytest.raises(ClassifierError, match="is damaged"):
        Classifier.from_bytes(bytes(content))


@given(length=st.integers(40, len(CONTENT) - 1))
def test_a_truncated_file_is_detected(length: int) -> None:
    with pytest.raises(ClassifierError, match="is damaged"):
        Classifier.from_bytes(CONTENT[:length])


def test_a_different_layout_is_named() -> None:
    with pytest.raises(ClassifierError, match="layout version 9.*train it again"):
        Classifier.from_bytes(CONTENT[:7] + b"\x09" + CONTENT[8:])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("header", b"[]"),
        ("header", b"{}"),
        ("header", b"\xff"),
        ("header", b"[" * 100_000),
        ("classes", ["Kiwi"]),
        ("classes", [1, 2]),
        ("provenance", {}),
        ("provenance", {"fingerprint": 5}),
        ("training", "long"),
        ("classes", ["Kiwi", "Kiwi"]),
        ("dimension", 0),
        ("dimension", 4),
        ("sections", {}),
        ("sections", {"mean": -8, "scale": 0, "coefficients": 0, "intercept": 0, "encoder": 0}),
        ("sections", {"mean": 1e400}),
    ],
)
def test_an_impossible_header_is_refused_even_with_a_valid_digest(name: str, value: object) -> None:
    import hashlib
    import struct

    length = struct.unpack_from("<Q", CONTENT, 40)[0]
    header = CONTENT[48 : 48 + length]
    changed = (
        value
        if isinstance(value, bytes)
        else json.dumps({**json.loads(header), name: value}).encode()
    )
    body = struct.pack("<Q", len(changed)) + changed + CONTENT[48 + length :]
    with pytest.raises(ClassifierError):
        Classifier.from_bytes(CONTENT[:8] + hashlib.sha256(body).digest() + body)


def test_a_value_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ClassifierError, match="finite"):
        replace(MADE, intercept=np.array([np.nan, 0], np.float32))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClassifierError, match="cannot read the classifier .*No such file"):
        Classifier.load(tmp_path / "none")


# Tables ------------------------------------------------------------------------------------------


def test_a_table_gives_an_answer_for_every_row(tmp_path: Path) -> None:
    table = tables.write(
        tmp_path / "t",
        [[9, 2, 3], [1, 9, 3], [1, 2, 3]],
        ["Kiwi", "Plum", None],
        failed=[("file:/pictures/Kiwi/empty.jpg", "empty")],
    )
    result = list(classify(MADE, table))
    assert [answer.label for answer in result] == ["Kiwi", None, "Plum", "Kiwi"]
    assert result[1] == Prediction(
        "file:/pictures/Kiwi/empty.jpg", None, None, "empty", "drawn as empty"
    )
    assert result[0].top == (("Kiwi", result[0].probability),)
    assert result[0].probability == pytest.approx(1, abs=1e-3)


def test_a_table_of_another_encoder_is_refused(tmp_path: Path) -> None:
    tables.write(tmp_path, [[1, 2, 3]], ["Kiwi"], fingerprint="b" * 64)
    with pytest.raises(
        ClassifierError, match=r"untrained:0 \(aaaaaaaaaaaa\).*another encoder \(bbbbb"
    ):
        next(classify(MADE, tmp_path))


def test_a_damaged_vector_is_named(tmp_path: Path) -> None:
    tables.write(tmp_path, [[1, 2, 3], [1, np.nan, 3]], ["Kiwi", "Plum"])
    with pytest.raises(TableError, match="Plum/1.jpg is ok and has no vector of 3 finite"):
        list(classify(MADE, tmp_path))


def test_an_encoder_given_with_a_table_is_refused(tmp_path: Path, encoder: Encoder) -> None:
    tables.write(tmp_path, [[1, 2, 3]], ["Kiwi"])
    with pytest.raises(EncoderError, match="leave `encoder` and `weights` out"):
        classify(MADE, tmp_path, encoder=encoder)


def test_the_most_probable_classes_come_first(tmp_path: Path) -> None:
    table = tables.write(tmp_path / "t", [[9, 2, 3], [1, 9, 3]], ["Kiwi", "Plum"])
    all_classes = list(classify(MADE, table, top=None))
    probabilities = MADE.probabilities(np.array([[9, 2, 3], [1, 9, 3]], np.float32))
    for answer, expected in zip(all_classes, probabilities, strict=True):
        assert dict(answer.top) == dict(zip(MADE.classes, expected.tolist(), strict=True))
        assert answer.top[0] == (answer.label, answer.probability)
        assert answer.top[0][1] >= answer.top[1][1]
    assert [len(answer.top) for answer in classify(MADE, table, top=1)] == [1, 1]
    with pytest.raises(UsageError, match="`top` is 0, expected 1 or more"):
        classify(MADE, table, top=0)


# Images ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fruit(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    """A folder: `photos` of two kinds, their table `t`, a classifier `c` without an encoder."""
    root = tmp_path_factory.mktemp("fruit")
    for seed in range(8):
        for label, size in (("wide", (90, 20)), ("tall", (20, 90))):
            folder = root / "photos" / label
            folder.mkdir(parents=True, exist_ok=True)
            picture = drawn.picture(*size, seed)
            picture = picture.convert("L") if label == "tall" else picture
            (folder / f"{seed}.png").write_bytes(drawn.encode(picture, "PNG"))
    (root / "photos" / "tall" / "empty.png").write_bytes(b"")
    pomona.extract(
        root / "photos", root / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1)
    )
    pomona.train(root / "t").classifier.save(root / "c")
    return root


def test_images_get_the_labels_of_their_table(fruit: Path, encoder: Encoder) -> None:
    of_images = sorted(classify(fruit / "c", fruit / "photos", encoder=encoder, workers=1), key=str)
    of_table = sorted(classify(fruit / "c", fruit / "t"), key=str)
    assert of_images == of_table
    assert len(of_images) == 17
    right = [a for a in of_images if a.label and f"/{a.label}/" in a.path]
    assert len(right) == 16


def test_answers_are_in_the_order_of_paths(fruit: Path, encoder: Encoder) -> None:
    answers = list(classify(fruit / "c", fruit / "photos", encoder=encoder, workers=3))
    assert [a.path for a in answers] == sorted(a.path for a in answers)


def test_the_encoder_is_rebuilt_if_its_weights_have_a_name(fruit: Path) -> None:
    (answer,) = classify(fruit / "c", fruit / "photos" / "wide" / "1.png", workers=1)
    assert answer.label == "wide"


def test_a_classifier_with_its_encoder_needs_no_other_file(
    fruit: Path, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pomona.train(fruit / "t", encoder=encoder).classifier.save(tmp_path / "c")

    def unwanted(*_: object, **__: object) -> None:
        pytest.fail("the encoder was built again")

    monkeypatch.setattr("pomona.building.build.build_encoder", unwanted)
    (answer,) = classify(tmp_path / "c", fruit / "photos" / "tall" / "1.png", workers=1)
    assert answer.label == "tall"


def test_weights_that_cannot_be_named_must_be_given(fruit: Path) -> None:
    probe = Classifier.load(fruit / "c")
    foreign = {"weights": "fruit.weights.h5", "fingerprint": "0" * 64}  # not in any cache
    probe = replace(probe, provenance={**probe.provenance, **foreign})
    with pytest.raises(EncoderError, match="give its file as `encoder`, or a file of its weights"):
        list(classify(probe, fruit / "photos"))


def test_no_encoder_is_searched_for_projected_vectors(
    fruit: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unwanted(*_: object, **__: object) -> None:
        pytest.fail("an encoder was built")

    monkeypatch.setattr("pomona.analysis.table_encoder.build_encoder", unwanted)
    project(FeatureTable(fruit / "t"), FeatureTable(tmp_path / "small"), 2)
    probe = pomona.train(tmp_path / "small").classifier
    with pytest.raises(EncoderError, match="no encoder makes such vectors: classify a table"):
        list(classify(probe, fruit / "photos"))
    with pytest.raises(EncoderError, match="no encoder makes such vectors: leave the encoder out"):
        pomona.train(tmp_path / "small", encoder=encoder)


def test_a_different_encoder_is_refused(fruit: Path, encoder: Encoder) -> None:
    other = replace(encoder, weights_sha256="0" * 64)
    with pytest.raises(ClassifierError, match="`encoder` is of another"):
        list(classify(fruit / "c", fruit / "photos", encoder=other))


def test_the_pixel_limit_is_an_option(fruit: Path) -> None:
    (answer,) = classify(fruit / "c", fruit / "photos" / "wide" / "1.png", max_pixels=9, workers=1)
    assert (answer.label, answer.status) == (None, "too_large")


def test_missing_images_are_refused(fruit: Path, encoder: Encoder) -> None:
    with pytest.raises(
        SourceError, match="does not exist"
    ):  # even though the encoder of MADE cannot be built
        classify(MADE, fruit / "none")
    with (
        object_store.serving() as store,
        pytest.raises(SourceError, match=r"key:\*\*\*@bucket/photos.* is not a feature table"),
    ):
        list(classify(fruit / "c", store.uri("/bucket/photos"), encoder=encoder))


# The commands ------------------------------------------------------------------------------------


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_info:
        cli.main([str(argument) for argument in arguments])
    out, err = capfd.readouterr()
    return int(exit_info.value.code or 0), out, err


def test_a_table_becomes_labels_on_the_command_line(
    capfd: pytest.CaptureFixture[str], fruit: Path, tmp_path: Path
) -> None:
    classifier, plot = tmp_path / "fruit.classifier", tmp_path / "c.png"
    code, out, err = run(capfd, "train", fruit / "t", "-o", classifier, "--plot", plot)
    assert code == 0
    assert out.startswith("trained on 12 images of 2 classes in ")
    assert "accuracy: 1.0000, 4 of 4 images right (95 % Wilson interval 0.5101 to 1.0000)" in out
    assert f"next: pomona classify {classifier} IMAGES" in out
    assert "skipped 1 image without a vector" in err
    assert plot.stat().st_size > 1000
    code, out, err = run(capfd, "classify", classifier, fruit / "photos", "--workers", "1")
    assert code == 0
    lines = list(csv.DictReader(out.splitlines()))
    assert len(lines) == 17
    (empty,) = [line for line in lines if line.pop("path").endswith("/empty.png")]
    assert empty == {
        "label": "", "probability": "", "status": "empty", "error": "the file is empty: 0 bytes",
    }  # fmt: skip
    assert err == "pomona: classified 16 images; failed: 1 empty\n"


def test_json_of_both_commands_is_one_object(
    capfd: pytest.CaptureFixture[str], fruit: Path, tmp_path: Path
) -> None:
    _, out, _ = run(capfd, "train", fruit / "t", "-o", tmp_path / "c", "--json")
    output = json.loads(out)
    assert output["evaluation"]["confusion"] == [[2, 0], [0, 2]]
    assert output["classes"] == ["tall", "wide"]
    assert output["trained_on"] == 12
    _, out, _ = run(capfd, "classify", tmp_path / "c", fruit / "t", "--json")
    answers = json.loads(out)["images"]
    assert len(answers) == 17
    assert {answer["status"] for answer in answers} == {"ok", "empty"}


@given(name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8))
def test_any_name_survives_as_one_csv_field(name: str) -> None:
    output = io.StringIO()
    with redirect_stdout(output):
        columns = Columns(top=1, classes=(), unlike=False)
        print_csv(iter([Prediction(name, name, 0.5, top=((name, 0.5),))]), columns)
    (row,) = csv.DictReader(io.StringIO(output.getvalue(), newline=""))
    assert (row["path"], row["label"], row["probability"]) == (name, name, "0.5000")


def test_more_labels_all_probabilities_and_the_nearness_are_more_columns(
    capfd: pytest.CaptureFixture[str], fruit: Path
) -> None:
    command = ["classify", fruit / "c", fruit / "t"]
    _, out, _ = run(capfd, *command, "--top", "9", "--probabilities", "--unlike")
    lines = list(csv.DictReader(out.splitlines()))
    assert list(lines[0]) == [
        *("path", "label", "probability", "label_2", "probability_2", "nearness", "status"),
        *("error", "probability of tall", "probability of wide"),
    ]
    for line in lines:
        if line["status"] == "ok":
            assert {line["label"], line["label_2"]} == {"tall", "wide"}
            assert line["probability"] == line[f"probability of {line['label']}"]
            assert line["probability_2"] == line[f"probability of {line['label_2']}"]
        else:
            assert not any(value for name, value in line.items() if "probability" in name)
    _, out, _ = run(capfd, *command, "--top", "2", "--unlike", "--json")
    for line, answer in zip(lines, json.loads(out)["images"], strict=True):
        assert [label for label, _ in answer["top"]] == list(
            filter(None, (line["label"], line["label_2"]))
        )
        assert line["nearness"] == (f"{answer['nearness']:.4f}" if answer["label"] else "")


BAD_USE = [
    (["train", "{fruit}/t"], "Missing option '-o'"),
    (["train", "{fruit}/photos", "-o", "{tmp}/c"], "no .parquet files"),
    (["train", "{fruit}/t", "-o", "{tmp}"], "is a folder: give a file's name"),
    (["train", "{fruit}/t", "-o", "{tmp}/none/c"], "there is no folder"),
    (["train", "{fruit}/t", "-o", "{tmp}/c", "--plot", "{tmp}/c.gif"], ".png, .svg"),
    (["train", "{fruit}/t", "-o", "{tmp}/c", "--split", "Training"], "Training/Testing"),
    (["train", "{fruit}/t", "-o", "{tmp}/c", "--seed", "4294967296"], "4294967295"),
    (
        ["train", "{fruit}/t", "-o", "{tmp}/c", "--split", "a/b", "--test-share", "0.5"],
        "leave --test-share out",
    ),
    (
        ["train", "{fruit}/t", "-o", "{tmp}/c", "--plot", "{tmp}/c.png", "--test-share", "0"],
        "leave --test-share 0 out",
    ),
    (["train", "{fruit}/t", "-o", "{tmp}/c", "--encoder", "{fruit}/c"], "not a Pomona encoder"),
    (["classify", "{fruit}/t", "{fruit}/t"], "cannot read the classifier"),
    (["classify", "{fruit}/photos/wide/1.png", "{fruit}/t"], "is not a Pomona classifier"),
    (["classify", "{fruit}/c", "{tmp}/none"], "does not exist"),
    (["classify", "{fruit}/c", "{fruit}/t", "--top", "0"], "--top"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_USE, ids=[m for _, m in BAD_USE])
def test_invalid_use_is_one_line_and_writes_nothing(
    capfd: pytest.CaptureFixture[str],
    fruit: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    filled = [argument.format(fruit=fruit, tmp=tmp_path) for argument in arguments]
    code, out, err = run(capfd, *filled)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_without_scikit_learn_the_error_names_the_extra(
    capfd: pytest.CaptureFixture[str], fruit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    code, _, err = run(capfd, "train", fruit / "t", "-o", tmp_path / "c")
    assert code == 2
    assert "pip install '.[analysis]'" in err


def test_classifying_needs_no_scikit_learn(
    fruit: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    shutil.copytree(fruit / "t", tmp_path / "t")
    assert sum(answer.label is not None for answer in classify(fruit / "c", tmp_path / "t")) == 16
