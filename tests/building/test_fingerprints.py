"""Ten encoders keep the fingerprints of the first release, so that old tables can be continued."""

from __future__ import annotations

import pytest

from network_files import FILES, SCALED, encoder_from
from pomona.building.build import build_encoder
from pomona.building.network_settings import NetworkSettings
from pomona.building.quantize.precision import convert_encoder
from pomona.encoder.encoder import Encoder

# Computed at commit 77f580d, except that of EfficientNet-Lite0.
NAMED = {
    ("efficientnet_lite0", "imagenet"): (
        "fa6120b7307c3623ae21fae943078228bc05ea58b12b66e80b75f0580676041e"
    ),
    ("mobilenet_v2", "untrained:7"): (
        "d9c6e8875ba5eaeafd9deb6521e417caea71817aabf1b70a207fd2ea67c0202e"
    ),
}
BF16 = "97d209e78162629b9f690807c8e36f16b91f0e735f659ebc5b9088665076f857"
CUT = "29c17f88082d3d08a4ddc55f9be6a14cdb20025b11080387d220970912a541f6"
FILES_AS_THEY_ARE = {
    "transfer.keras": "e404b4eede395e3e8de10f19caa6d06290a1702bfcf6b05bed30e90820cf1375",
    "functional.h5": "27612cc33b3078e379d23013f9e8786d9208e5369ab274a3ac44eca7c4de8d01",
    "keras2_functional.keras": "43a0cbeba1cb4586b346b3a59970d2b0c06b588f625a671c21c1bf52542f67ab",
    "unusual.keras": "60b2041d5e9f430e162c9dbd1750bf330d2264cad901b3551a5836e948e4e33f",
    "keras2_unusual.h5": "8c55582a189eb601c997c1f073bb86fe61c0a788ff868d9f40b55d39ff3604d5",
}
FILES_SCALED = {
    "bare.keras": "e07df0be156d0339b542a885d9c19a39f7e770829a8a9afa52bf238570e8eab1",
    "bare.tflite": "830b017c863e88599f313a3f11dca63733a8b5657cdc728b5eb13d675f9d4774",
    "bare_saved": "e557cb5b8e8922c0f9d90135e09ee9f98c6f36d5b0ee4d1d5ddf93360a009b83",
}


@pytest.mark.parametrize(("network", "weights"), NAMED)
def test_the_fingerprint_of_a_named_network_never_changes(network: str, weights: str) -> None:
    assert build_encoder(network, weights).fingerprint == NAMED[network, weights]


def test_the_fingerprint_of_a_lower_precision_never_changes(encoder: Encoder) -> None:
    assert convert_encoder(encoder, "bf16").fingerprint == BF16


def test_the_fingerprint_of_an_inner_layer_never_changes() -> None:
    settings = NetworkSettings(layer="block_13_expand_relu")
    assert build_encoder("mobilenet_v2", "untrained:7", settings=settings).fingerprint == CUT


@pytest.mark.parametrize("file", FILES_AS_THEY_ARE)
def test_the_fingerprint_of_a_file_never_changes(file: str) -> None:
    assert encoder_from(FILES / file).fingerprint == FILES_AS_THEY_ARE[file]


@pytest.mark.parametrize("file", FILES_SCALED)
def test_the_fingerprint_of_a_file_with_explicit_preprocessing_never_changes(file: str) -> None:
    assert encoder_from(FILES / file, SCALED).fingerprint == FILES_SCALED[file]
