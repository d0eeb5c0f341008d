"""The settings of a network in a file, given as options or in a card next to the file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_files import FILES, VECTORS, assert_gives, encoder_from
from pomona.building import build
from pomona.building.network_settings import NetworkSettings
from pomona.errors import EncoderError

KEYS = ("size", "resize", "channel_order", "scale", "mean", "std", "layout", "layer", "signature")


def test_a_card_beside_the_file_replaces_options(tmp_path: Path) -> None:
    shutil.copy(FILES / "bare.tflite", tmp_path / "fruit.tflite")
    card = "mean = [127.5, 127.5, 127.5]\nstd = 127.5\nresize = 'bilinear'\n"
    (tmp_path / "fruit.toml").write_text(card)
    encoder = build.build_encoder(tmp_path / "fruit.tflite")
    assert encoder.preprocessing.resize == "bilinear"
    assert_gives(encoder, VECTORS["backbone"])
    settings = NetworkSettings(resize="lanczos")
    assert build.build_encoder(
        tmp_path / "fruit.tflite", settings=settings
    ).preprocessing.resize == ("lanczos")
    (tmp_path / "fruit.tflite.toml").write_text(card.replace("bilinear", "box"))
    assert build.build_encoder(tmp_path / "fruit.tflite").preprocessing.resize == "box"


@pytest.mark.parametrize("other", ["fruit.keras", "fruit.h5", "fruit.onnx"])
def test_a_card_that_could_belong_to_another_network_is_ignored(tmp_path: Path, other: str) -> None:
    shutil.copy(FILES / "bare.tflite", tmp_path / "fruit.tflite")
    (tmp_path / other).touch()
    (tmp_path / "fruit.toml").write_text("mean = 127.5\nstd = 127.5\n")
    with pytest.raises(
        EncoderError, match=rf"can be for fruit.tflite or for {other}.*fruit.tflite.toml"
    ):
        build.build_encoder(tmp_path / "fruit.tflite")
    (tmp_path / "fruit.toml").rename(tmp_path / "fruit.tflite.toml")
    assert_gives(build.build_encoder(tmp_path / "fruit.tflite"), VECTORS["backbone"])


def test_a_folder_and_a_file_of_the_same_name_do_not_share_a_card(tmp_path: Path) -> None:
    shutil.copy(FILES / "bare.tflite", tmp_path / "fruit.tflite")
    shutil.copytree(FILES / "bare_saved", tmp_path / "fruit")
    card = tmp_path / "fruit.toml"
    card.write_text("mean = 127.5\nstd = 127.5\n")
    for name, other in (("fruit", "fruit.tflite"), ("fruit.tflite", "fruit")):
        message = f"for {name} or for {other}, .*rename it to fruit.tflite.toml if"
        with pytest.raises(EncoderError, match=message):
            build.build_encoder(tmp_path / name)
    shutil.copy(card, tmp_path / "fruit.tflite.toml")
    assert_gives(build.build_encoder(tmp_path / "fruit"), VECTORS["backbone"])
    assert_gives(build.build_encoder(tmp_path / "fruit.tflite"), VECTORS["backbone"])


def test_a_card_may_start_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "fruit.toml").write_text("scale = 1.0\n", encoding="utf-8-sig")
    assert NetworkSettings.from_toml(tmp_path / "fruit.toml") == NetworkSettings(scale=1.0)


def test_scale_mean_and_std_are_combined() -> None:
    settings = NetworkSettings(scale=1 / 255, mean=[0.5, 0.25, 0.0], std=0.5)
    spec = encoder_from(FILES / "bare.tflite", settings).preprocessing
    assert spec.mean == pytest.approx((127.5, 63.75, 0))
    assert spec.std == pytest.approx((127.5,) * 3)
    assert settings.over(NetworkSettings(mean=9.0, resize="box")) == NetworkSettings(
        scale=1 / 255, mean=[0.5, 0.25, 0.0], std=0.5, resize="box"
    )
    assert NetworkSettings(scale=2.0).over(settings) == NetworkSettings(scale=2.0)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("size = 0", "size is 0"),
        ("size = [1, 2, 3]", "size is"),
        ("mean = 'x'", "mean is 'x'"),
        ("std = [1, 2]", r"std is \[1, 2\]"),
        ("scale = -1", "scale is -1"),
        ("layout = 'CHW'", "layout is 'CHW'"),
        ("layer = 3", "layer is 3"),
        ("sise = 224", "has the key 'sise', expected size, resize"),
        ("size = ", "is not valid TOML"),
        ("std = 0", "std is"),
        ("resize = 'cubic'", "resize is 'cubic'"),
    ],
)
def test_an_invalid_card_is_refused(tmp_path: Path, card: str, message: str) -> None:
    shutil.copy(FILES / "bare.tflite", tmp_path / "fruit.tflite")
    (tmp_path / "fruit.toml").write_text(f"{card}\n")
    with pytest.raises(EncoderError, match=f"the card .*fruit.toml.*{message}"):
        build.build_encoder(tmp_path / "fruit.tflite")


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.floats())
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, ANYTHING)))
def test_settings_are_refused_or_survive_a_round_trip(options: dict[str, Any]) -> None:
    try:
        settings = NetworkSettings(**options)
    except EncoderError:
        return
    assert NetworkSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
