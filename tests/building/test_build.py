"""Encoders as Keras builds them, compared with Keras on TensorFlow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import drawn
from network_files import UNIT, encoder_from, onnx_network
from places import TESTS
from pomona.building import build
from pomona.building.keras import applications
from pomona.building.keras.backend import import_keras
from pomona.building.network_settings import NetworkSettings
from pomona.encoder.encoder import Encoder
from pomona.encoder.networks import CARDS, find_card
from pomona.errors import EncoderError
from pomona.runtime.openvino import OpenVinoRuntime
from pomona.worker.decode import decode
from pomona.worker.resize import resize_to

GOLDENS = TESTS / "goldens" / "mobilenet_v2_seed7.npz"


def features_of(encoder: Encoder, files: list[bytes]) -> np.ndarray:
    runtime, spec = OpenVinoRuntime(encoder), encoder.preprocessing
    pictures = [decode(content) for content in files]
    pixels = np.stack([resize_to(p, spec.height, spec.width, spec.resize) for p in pictures])
    features = np.empty((len(pixels), encoder.dimension), np.float32)
    runtime.predict(pixels, features)
    return features


def test_features_agree_with_keras_on_tensorflow(encoder: Encoder) -> None:
    golden = np.load(GOLDENS)
    files = [golden[f"png_{name}"].tobytes() for name in golden["names"]]
    assert np.abs(features_of(encoder, files) - golden["features"]).max() < 1e-4


def test_a_vector_does_not_depend_on_the_other_images_of_a_batch(encoder: Encoder) -> None:
    golden = np.load(GOLDENS)
    files = [golden[f"png_{name}"].tobytes() for name in golden["names"]]
    alone = np.concatenate([features_of(encoder, [content]) for content in files])
    np.testing.assert_array_equal(features_of(encoder, files), alone)
    np.testing.assert_array_equal(features_of(encoder, files[::-1])[::-1], alone)


def test_the_encoder_records_its_origin(encoder: Encoder) -> None:
    provenance = encoder.provenance()
    assert provenance["model"] == "mobilenet_v2"
    assert provenance["weights"] == "untrained:7"
    assert provenance["input_size"] == "224x224"
    assert provenance["mean"] == provenance["std"] == "127.5, 127.5, 127.5"
    assert provenance["output"] == "global_average_pooling2d"
    assert (provenance["dimension"], provenance["precision"]) == ("1280", "f32")


def test_the_card_has_the_numbers_of_the_network(encoder: Encoder) -> None:
    card = find_card("mobilenet_v2")
    network = build.describe_network("mobilenet_v2")
    assert network["parameters"] == card.parameters
    assert network["layers"][-1]["shape"] == [card.dimension] == [encoder.dimension]
    assert network["layers"][0]["shape"] == [224, 224, 3]


def test_building_again_gives_identical_bytes(encoder: Encoder) -> None:
    assert applications.build("mobilenet_v2", "untrained:7").fingerprint == encoder.fingerprint


def test_a_different_seed_gives_a_different_encoder(encoder: Encoder) -> None:
    assert applications.build("mobilenet_v2", "untrained:8").fingerprint != encoder.fingerprint


@pytest.mark.parametrize("form", ["weights.h5", "h5", "whole.h5"])
@pytest.mark.parametrize("top", [False, True])
def test_a_weights_file_gives_the_same_encoder_in_every_form(
    encoder: Encoder, tmp_path: Path, form: str, top: bool
) -> None:
    network = applications._network(find_card("mobilenet_v2"), "untrained:7")
    if top:
        import keras

        network = keras.Sequential([network, keras.layers.Dense(3)]).layers[0]
        scores = keras.layers.Dense(3, name="predictions")(network.output)
        network = keras.Model(network.input, scores)
    path = tmp_path / f"fruit.{form}"
    if form == "weights.h5":
        network.save_weights(path)
    elif form == "whole.h5":
        network.save(path)
    else:
        save_as_keras_2(network, path)
    built = applications.build("mobilenet_v2", str(path))
    assert built.fingerprint == encoder.fingerprint
    assert built.weights == f"fruit.{form}"


@pytest.mark.parametrize("form", ["weights.h5", "h5"])
def test_a_nested_network_is_found_by_its_weights(
    encoder: Encoder, tmp_path: Path, form: str
) -> None:
    network = applications._network(find_card("mobilenet_v2"), "untrained:7")
    layers = import_keras().layers
    augment = import_keras().Sequential([layers.RandomFlip(), layers.RandomZoom(0.1)])
    whole = import_keras().Sequential(
        [
            layers.Input((224, 224, 3)),
            *(augment, layers.Rescaling(1 / 127.5, -1), network),
            *(layers.Dropout(0.2), layers.Dense(9), layers.BatchNormalization(), layers.Dense(3)),
        ]
    )
    path = tmp_path / f"fruit.{form}"
    whole.save_weights(path) if form == "weights.h5" else whole.save(path)
    assert applications.build("mobilenet_v2", str(path)).fingerprint == encoder.fingerprint


def test_settings_change_the_input_of_a_known_network(encoder: Encoder) -> None:
    settings = NetworkSettings(
        size=(96, 160), resize="bilinear", scale=1 / 255, layer="block_1_expand"
    )
    built = applications.build("mobilenet_v2", "untrained:7", settings)
    spec = built.preprocessing
    assert (spec.height, spec.width, spec.resize) == (96, 160, "bilinear")
    assert (spec.mean, spec.std) == ((0.0,) * 3, pytest.approx((255.0,) * 3))
    assert (built.output, built.dimension) == ("block_1_expand", 48 * 80 * 96)
    assert built.fingerprint != encoder.fingerprint


def test_settings_that_a_known_network_does_not_support_are_refused() -> None:
    with pytest.raises(EncoderError, match="did you mean .*block_1_expand"):
        applications.build("mobilenet_v2", "untrained:7", NetworkSettings(layer="block_1_expnd"))
    with pytest.raises(EncoderError, match="leave `layout` NCHW out"):
        applications.build("mobilenet_v2", "untrained:7", NetworkSettings(layout="NCHW"))


def save_as_keras_2(network: object, path: Path) -> None:
    """Save weights only, in the Keras 2 layout that keras.applications still publishes."""
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, network)


def test_a_second_build_comes_from_the_cache_without_keras(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_keras(_: object) -> object:
        raise AssertionError("Keras was asked again")

    monkeypatch.setattr(build, "_ask", no_keras)
    assert build.build_encoder("mobilenet_v2", "untrained:7") == encoder


def test_a_damaged_cache_entry_is_rebuilt(encoder: Encoder, cache: Path) -> None:
    whole = {
        path: path.read_bytes()
        for path in cache.glob("encoders/*.encoder")
        if Encoder.load(path) == encoder  # other tests may have cached it under different names
    }
    for path, content in whole.items():
        path.write_bytes(content[:1000])
    assert build.build_encoder("mobilenet_v2", "untrained:7") == encoder
    built = [path for path in whole if path.stat().st_size > 1000]
    assert built
    assert all(Encoder.load(path) == encoder for path in built)
    for path, content in whole.items():
        path.write_bytes(content)


def cannot_be_created(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POMONA_CACHE", "/proc/nowhere")


def cannot_be_listed(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POMONA_CACHE", "/" + "long" * 100)


def cannot_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POMONA_CACHE", str(folder))
    monkeypatch.setattr(build, "canonical_digest", lambda _: "name")
    (folder / "encoders" / "name.encoder").mkdir(parents=True)


def has_no_owner(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError("no such user")

    for name in ("POMONA_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)


@pytest.mark.parametrize(
    "cache_that", [cannot_be_created, cannot_be_listed, cannot_be_written, has_no_owner]
)
def test_without_a_usable_cache_the_encoder_is_built_anyway(
    encoder: Encoder,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    cache_that: Callable[[Path, pytest.MonkeyPatch], None],
) -> None:
    def ask(_package: str, request: dict[str, str], _what: str) -> dict[str, Any]:
        encoder.save(request["path"])
        return {"notes": []}

    monkeypatch.setattr(build, "ask", ask)  # building takes seconds
    cache_that(tmp_path, monkeypatch)
    assert build.build_encoder("mobilenet_v2", "untrained:7") == encoder
    assert not list(tmp_path.rglob(".*"))  # drafts


def test_the_error_for_an_unknown_model_suggests_similar_names() -> None:
    with pytest.raises(EncoderError, match="did you mean mobilenet_v2"):
        build.build_encoder("mobilenetv2", "untrained:0")


@pytest.mark.parametrize("weights", ["imagenet", "untrained:0"])
def test_an_unsupported_size_of_a_known_network_is_reported(weights: str) -> None:
    with pytest.raises(EncoderError, match="cannot be built for images of 16 x 16 pixels: Input"):
        applications.build("mobilenet_v2", weights, NetworkSettings(size=(16, 16)))


def test_a_model_name_with_a_dot_is_not_taken_for_a_file() -> None:
    with pytest.raises(EncoderError, match="did you mean .*efficientnet_v2_s"):
        build.build_encoder("efficientnet_v2.s", "untrained:0")


def test_a_failed_imagenet_download_names_two_alternatives(tmp_path: Path) -> None:
    request = {"do": "build", "model": "mobilenet_v2", "weights": "imagenet", "path": "/none"}
    script = (
        "import socket\n"
        "def refuse(*_): raise OSError('no network')\n"
        "socket.getaddrinfo = refuse\n"
        "from pomona.building.__main__ import answer, reply\n"
        "reply(answer)"
    )
    completed = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "KERAS_HOME": str(tmp_path)},
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(completed.stdout)["error"]
    assert "could not be downloaded" in answer
    assert "give `model` efficientnet_lite0, whose weights come from a Python package, or" in answer
    assert "a Keras weights file as `weights`" in answer


@pytest.mark.parametrize("weights", ["untrained:", "untrained:x", "untrained:-1", "untrained:²"])
def test_an_invalid_seed_is_refused_before_keras_starts(weights: str) -> None:
    with pytest.raises(EncoderError, match="expected a whole number"):
        build.build_encoder("mobilenet_v2", weights)


def test_every_card_is_found_by_its_name() -> None:
    assert all(find_card(name) is card for name, card in CARDS.items())


def test_features_agree_with_the_reference_on_real_fruits(shared_data: Path) -> None:
    weights = shared_data / "weights" / "mobilenet_v2_imagenet_notop.weights.h5"
    golden = np.load(shared_data / "golden" / "fruits_mobilenet_v2_imagenet.npz")
    files = [(shared_data / "fruits" / path).read_bytes() for path in golden["path"]]
    computed = features_of(build.build_encoder("mobilenet_v2", str(weights)), files)
    assert np.abs(computed - golden["features"]).max() < 1e-4


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_normalized_vectors_have_length_one_and_the_same_direction(
    tmp_path: Path, runtime: str
) -> None:
    pytest.importorskip("onnx", reason="the extra onnx is missing")
    onnx_network(tmp_path / "fruit.onnx")
    plain, unit = (
        encoder_from(tmp_path / "fruit.onnx", replace(UNIT, normalize=flag), runtime=runtime)
        for flag in (None, True)
    )
    images = [drawn.picture(40, 30, seed) for seed in range(3)]
    vectors = plain.embed(images)
    expected = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.abs(unit.embed(images) - expected).max() < 1e-6
    assert unit.fingerprint != plain.fingerprint
    assert (unit.provenance()["normalized"], "normalized" in plain.provenance()) == ("L2", False)
    assert Encoder.from_bytes(unit.to_bytes()) == unit


def test_a_named_network_can_be_normalized() -> None:
    settings = NetworkSettings(normalize=True)
    encoder = build.build_encoder("mobilenet_v2", "untrained:7", settings=settings)
    assert np.linalg.norm(encoder.embed(drawn.picture(40, 30))) == pytest.approx(1)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_unrounded_pixels_reach_the_network(tmp_path: Path, runtime: str) -> None:
    pytest.importorskip("onnx", reason="the extra onnx is missing")
    onnx_network(tmp_path / "fruit.onnx")
    rounded, unrounded = (
        encoder_from(tmp_path / "fruit.onnx", replace(UNIT, pixel_type=kind), runtime=runtime)
        for kind in (None, "float32")
    )
    image = drawn.picture(97, 61)
    vectors = rounded.embed(image), unrounded.embed(image)
    assert 0 < np.abs(vectors[0] - vectors[1]).max() < 0.01 * np.abs(vectors[0]).max()
    assert unrounded.fingerprint != rounded.fingerprint
