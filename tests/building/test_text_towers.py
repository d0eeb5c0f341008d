"""Text towers of folders, compared with transformers and open_clip."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pomona
from command_line import run
from pomona.building.build import build_encoder, is_part_of_network
from pomona.building.network_files import build
from pomona.building.network_settings import NetworkSettings
from pomona.encoder.encoder import Encoder
from pomona.errors import EncoderError
from pomona.runtime.text import TextRuntime
from text_towers import ANSWERS, FOLDERS, IMAGES, NAMES, SCORED, encoder_in, unit

NO_SETTINGS = NetworkSettings()


@pytest.mark.parametrize("name", NAMES)
def test_vectors_of_texts_and_images_agree_with_the_authors_library(name: str) -> None:
    encoder, answer = encoder_in(name), ANSWERS[name]
    texts, images = pomona.embed_text(ANSWERS["texts"], encoder), encoder.embed(IMAGES)
    if name in {"clip_joint", "siglip2"}:  # the joint graph divides vectors by their lengths
        assert np.abs(texts - unit(answer["texts"])).max() < 1e-4
        assert np.abs(images - unit(answer["images"])).max() < 1e-4
    else:
        assert np.abs(texts - answer["texts"]).max() < 1e-4
        assert np.abs(images - answer["images"]).max() < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_texts_have_the_tokens_of_the_authors_tokenizer(name: str) -> None:
    encoder = encoder_in(name)
    assert encoder.text is not None
    runtime = TextRuntime(encoder.text, encoder.dimension)
    assert runtime.tokens(ANSWERS["texts"]) == ANSWERS[name]["ids"]


@pytest.mark.parametrize("name", SCORED)
def test_the_scale_of_scores_is_that_of_the_trained_model(name: str) -> None:
    tower, answer = encoder_in(name).text, ANSWERS[name]
    assert tower is not None
    assert tower.logit_scale == pytest.approx(answer["logit_scale"], rel=1e-4)
    assert tower.logit_bias == pytest.approx(answer["logit_bias"], rel=1e-4, abs=1e-9)
    assert tower.probability == ("sigmoid" if "siglip" in name else "softmax")


@pytest.mark.parametrize("name", SCORED)
def test_the_labels_of_the_goldens_have_different_probabilities(name: str) -> None:
    """Sentences that are cut off before the label would be equal, whatever the label is."""
    for probabilities in ANSWERS[name]["probabilities"]:
        assert len(set(probabilities)) == len(ANSWERS["labels"])


@pytest.mark.parametrize("name", SCORED)
def test_probabilities_agree_with_the_authors_library(name: str) -> None:
    classifier = pomona.zero_shot(ANSWERS["labels"], encoder_in(name), ANSWERS["template"])
    found = classifier.probabilities(encoder_in(name).embed(IMAGES))
    assert np.abs(found - ANSWERS[name]["probabilities"]).max() < 1e-4


def test_an_encoder_with_two_towers_is_one_file(tmp_path: Path) -> None:
    made = encoder_in("siglip")
    made.save(tmp_path / "siglip.encoder")
    read = Encoder.load(tmp_path / "siglip.encoder")
    assert read == made
    assert np.array_equal(pomona.embed_text("a", read), pomona.embed_text("a", made))


def test_the_text_tower_does_not_change_what_images_are(tmp_path: Path) -> None:
    """So that a table of an encoder for images only can be searched with words."""
    shutil.copytree(FOLDERS / "clip", tmp_path / "clip")
    (tmp_path / "clip" / "tokenizer.json").unlink()
    for_images = build(tmp_path / "clip", NO_SETTINGS)
    assert for_images.text is None
    assert for_images.fingerprint == encoder_in("clip").fingerprint
    assert for_images.provenance() == encoder_in("clip").provenance()


def test_an_encoder_on_onnx_runtime_has_the_same_text_tower() -> None:
    pytest.importorskip("onnxruntime")
    encoder = build(FOLDERS / "clip", NO_SETTINGS, runtime="onnxruntime")
    texts = ANSWERS["texts"]
    same = pomona.embed_text(texts, encoder_in("clip"))
    assert np.array_equal(pomona.embed_text(texts, encoder), same)
    assert np.abs(encoder.embed(IMAGES) - ANSWERS["clip"]["images"]).max() < 1e-4


def test_workers_get_the_encoder_without_its_text_tower() -> None:
    stripped = encoder_in("clip").for_images()
    assert stripped.text is None
    assert len(stripped.to_bytes()) < len(encoder_in("clip").to_bytes()) / 2
    assert stripped.fingerprint == encoder_in("clip").fingerprint


def test_a_run_writes_no_text_tower_for_its_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    IMAGES[0].save(tmp_path / "a.png")
    saved: list[Encoder] = []
    save = Encoder.save
    monkeypatch.setattr(Encoder, "save", lambda self, path: (saved.append(self), save(self, path)))
    pomona.extract(tmp_path, tmp_path / "features", encoder=encoder_in("clip"))
    assert [encoder.text for encoder in saved] == [None]


def test_normalize_scales_the_vectors_of_texts_too() -> None:
    encoder = build(FOLDERS / "clip", NetworkSettings(normalize=True))
    texts = pomona.embed_text(ANSWERS["texts"], encoder)
    assert np.abs(texts - unit(ANSWERS["clip"]["texts"])).max() < 1e-5


def test_scale_and_bias_can_be_given_if_the_files_do_not_have_them() -> None:
    encoder = build(FOLDERS / "immich", NetworkSettings(logit_scale=100))
    assert encoder.text is not None
    assert (encoder.text.logit_scale, encoder.text.logit_bias) == (100, 0)
    with pytest.raises(EncoderError, match="the scale of its scores.*`logit_scale`"):
        pomona.zero_shot(["a", "b"], encoder_in("immich"))


@pytest.mark.parametrize("option", ["logit_scale", "logit_bias"])
def test_a_scale_without_a_text_tower_is_refused(option: str) -> None:
    folder = FOLDERS.with_name("folders") / "dinov2"
    with pytest.raises(EncoderError, match=f"`{option}` 9 has no effect on .*no text tower"):
        build(folder, NetworkSettings(**{option: 9}))
    with pytest.raises(EncoderError, match=f"`{option}` 9 has no effect on mobilenet_v2"):
        build_encoder("mobilenet_v2", "untrained:0", settings=NetworkSettings(**{option: 9}))


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """A copy of a folder, in one of whose JSON files some values differ."""

    def copy(name: str, file: str = "tokenizer_config.json", **values: Any) -> Path:
        shutil.copytree(FOLDERS / name, tmp_path / name)
        place = tmp_path / name / file
        data = json.loads(place.read_text())
        place.write_text(json.dumps(data | values))
        return tmp_path / name

    return copy


def with_tokenizer_of(folder: Path, other: str) -> Path:
    shutil.copy(FOLDERS / other / "tokenizer.json", folder / "tokenizer.json")
    return folder


@pytest.mark.parametrize(("name", "other"), [("clip", "siglip"), ("siglip", "siglip2")])
def test_the_tokenizer_of_another_model_is_refused(
    folder: Callable[..., Path], name: str, other: str
) -> None:
    with pytest.raises(EncoderError, match=r"tokenizer of another model: it has \d+ tokens"):
        build(with_tokenizer_of(folder(name), other), NO_SETTINGS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tokenizer_class": "BertTokenizer"}, "BertTokenizer .*expected CLIPTokenizer"),
        ({"tokenizer_class": None}, "expected CLIPTokenizer for clip"),
        ({"eos_token": "<|startoftext|>"}, "tokenizer of another model: it ends texts with"),
        ({"pad_token": "[PAD]"}, "tokenizer of another model: it has no"),
        ({"pad_token": None}, "has no pad_token"),
        ({"do_lower_case": False}, "do_lower_case false"),
    ],
)
def test_a_tokenizer_that_contradicts_its_configuration_is_refused(
    folder: Callable[..., Path], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(EncoderError, match=message) as caught:
        build(folder("clip", **values), NO_SETTINGS)
    assert "remove tokenizer.json to build an encoder for images only" in str(caught.value)


@pytest.mark.parametrize("context", [0, -1, True, "77", 10**9, 1.5])
def test_a_number_of_tokens_that_cannot_be_is_refused(
    folder: Callable[..., Path], context: Any
) -> None:
    path = folder("clip", "config.json", text_config={"max_position_embeddings": context})
    with pytest.raises(EncoderError, match="max_position_embeddings"):
        build(path, NO_SETTINGS)


def test_a_number_of_tokens_that_contradicts_the_graph_is_refused(
    folder: Callable[..., Path],
) -> None:
    path = folder("siglip", "config.json", text_config={"max_position_embeddings": 64})
    with pytest.raises(EncoderError, match="does not make a vector of 64 tokens"):
        build(path, NO_SETTINGS)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b"[" * 10_000, b'{"model": 1}'])
def test_a_damaged_tokenizer_is_refused(folder: Callable[..., Path], content: bytes) -> None:
    path = folder("clip")
    (path / "tokenizer.json").write_bytes(content)
    with pytest.raises(EncoderError, match="tokenizer.json cannot be read") as caught:
        build(path, NO_SETTINGS)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_outside_the_folder_is_refused(folder: Callable[..., Path]) -> None:
    path = folder("clip")
    moved = path.with_name("elsewhere.json")
    (path / "tokenizer.json").rename(moved)
    (path / "tokenizer.json").symlink_to(moved)
    with pytest.raises(EncoderError, match="link out of its folder"):
        build(path, NO_SETTINGS)


def test_texts_and_images_of_different_dimensions_are_refused(folder: Callable[..., Path]) -> None:
    path = folder("clip")
    shutil.copy(FOLDERS / "siglip" / "onnx" / "vision_model.onnx", path / "onnx")
    with pytest.raises(EncoderError, match="20 numbers for texts and of 24 for images"):
        build(path, NetworkSettings(layer="pooler_output"))


@pytest.mark.parametrize("missing", ["tokenizer.json", "tokenizer_config.json"])
def test_without_its_tokenizer_a_folder_gives_an_encoder_for_images(
    folder: Callable[..., Path], missing: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder("siglip")
    (path / missing).unlink()
    with caplog.at_level(logging.INFO):
        assert build(path, NO_SETTINGS).text is None
    assert f"for texts, it has no {missing}" in caplog.text


def test_without_the_extra_a_folder_gives_an_encoder_for_images(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pomona.building.folders.text_model.is_installed", lambda _: False)
    with caplog.at_level(logging.INFO):
        assert build(FOLDERS / "clip", NO_SETTINGS).text is None
    assert "for texts, it needs tokenizers: " in caplog.text


def test_a_vision_folder_beside_a_tokenizer_has_no_text_tower(folder: Callable[..., Path]) -> None:
    path = folder("clip")
    (path / "onnx" / "text_model.onnx").unlink()
    shutil.copy(path / "onnx" / "vision_model.onnx", path / "onnx" / "model.onnx")
    assert build(path, NO_SETTINGS).text is None


def test_another_tokenizer_is_another_encoder_in_the_cache(
    folder: Callable[..., Path],
    cache: Path,  # noqa: ARG001 - of this session
) -> None:
    path = folder("clip")
    first = build_encoder(path)
    data = json.loads((path / "tokenizer.json").read_text())
    data["normalizer"] = None  # upper case stays
    (path / "tokenizer.json").write_text(json.dumps(data))
    second = build_encoder(path)
    assert first.text is not None
    assert second.text is not None
    assert first.text.tokenizer != second.text.tokenizer
    assert first.fingerprint == second.fingerprint


def test_no_file_of_the_text_tower_is_overwritten(folder: Callable[..., Path]) -> None:
    path = folder("clip")
    for name in ("tokenizer.json", "tokenizer_config.json", "onnx/text_model.onnx"):
        assert is_part_of_network(path / name, path)


def test_encoder_build_and_show_say_how_texts_are_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "siglip.encoder"
    line = "texts: 32 tokens, without punctuation, sigmoid of 12 * cosine -3.5"
    _, out, _ = run(capfd, "encoder", "build", FOLDERS / "siglip", "-o", file)
    assert line in out.splitlines()
    _, out, _ = run(capfd, "encoder", "show", file)
    assert line in out.splitlines()
    _, out, _ = run(capfd, "encoder", "show", file, "--json")
    assert json.loads(out)["text"] == {
        "cleaning": "canonical",
        "context": 32,
        "logit_bias": pytest.approx(-3.5),
        "logit_scale": pytest.approx(12),
        "probability": "sigmoid",
    }
