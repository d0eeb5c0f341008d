"""The settings of a network in a file, given as options or in a card next to the file."""

from __future__ import annotations

import dataclasses
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
from pomona.encoder.networks import find_card
from pomona.encoder.preprocessing import Preprocessing
from pomona.errors import EncoderError

KEYS = tuple(field.name for field in dataclasses.fields(NetworkSettings))


ANY = Preprocessing(height=1, width=1, mean=(0.0,) * 3, std=(1.0,) * 3)


def test_a_card_beside_the_file_replaces_options(tmp_path: Path) -> None:
    shutil.copy(FILES / "bare.tflite", tmp_path / "fruit.tflite")
    card = (
        "resize_mode = 'squash'\nmean = [127.5, 127.5, 127.5]\nstd = 127.5\nresize = 'bilinear'\n"
    )
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
    (tmp_path / "fruit.toml").write_text("resize_mode = 'squash'\nmean = 127.5\nstd = 127.5\n")
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
    card.write_text("resize_mode = 'squash'\nmean = 127.5\nstd = 127.5\n")
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
    squashed = dataclasses.replace(settings, resize_mode="squash")
    spec = encoder_from(FILES / "bare.tflite", squashed).preprocessing
    assert spec.mean == pytest.approx((127.5, 63.75, 0))
    assert spec.std == pytest.approx((127.5,) * 3)
    assert settings.over(NetworkSettings(mean=9.0, resize="box")) == NetworkSettings(
        scale=1 / 255, mean=[0.5, 0.25, 0.0], std=0.5, resize="box"
    )
    assert NetworkSettings(scale=2.0).over(settings) == NetworkSettings(scale=2.0)


def test_crop_pct_becomes_a_size_with_the_rounding_of_timm() -> None:
    spec = NetworkSettings(size=[224, 97], crop_pct=0.95).preprocessing(ANY)
    assert spec.resize_size == (235, 102)  # floor of 235.8 and 102.1
    assert spec.resize_mode == "shortest"
    squashed = NetworkSettings(size=224, crop_pct=0.95, resize_mode="squash").preprocessing(ANY)
    assert squashed.resize_mode == "squash"


def test_the_size_of_the_crop_comes_from_the_caller_or_from_the_card() -> None:
    card = NetworkSettings(size=224, crop_pct=0.875, resize_mode="shortest")
    assert NetworkSettings(resize_size=232).over(card) == NetworkSettings(
        size=224, resize_size=232, resize_mode="shortest"
    )


def test_resizing_of_the_caller_replaces_all_resizing_of_the_card() -> None:
    lite = find_card("efficientnet_lite0").preprocessing
    assert lite.crop_before == 0.875
    assert NetworkSettings(resize="box").preprocessing(lite).crop_before == 0.875
    for settings in (
        NetworkSettings(resize_mode="squash"),
        NetworkSettings(crop_pct=0.9),
        NetworkSettings(crop_pct=0.9, crop="after"),
        NetworkSettings(resize_size=256),
    ):
        assert settings.preprocessing(lite).crop_before is None
    card = NetworkSettings(size=224, resize_size=256, resize_mode="shortest")
    squashed = NetworkSettings(resize_mode="squash").over(card)
    assert squashed == NetworkSettings(size=224, resize_mode="squash")


@pytest.mark.parametrize("network", ["mobilenet_v2", "efficientnet_lite0", "transfer.keras"])
@pytest.mark.parametrize("name", ["pool", "prefix_tokens"])
def test_a_setting_without_effect_is_refused(network: str, name: str) -> None:
    model = FILES / network if "." in network else network
    settings = NetworkSettings(**{name: "cls" if name == "pool" else 1})
    with pytest.raises(
        EncoderError, match=f"`{name}` .* has no effect on .*{network}: leave it out"
    ):
        build.build_encoder(model, settings=settings)


def test_settings_that_change_no_pixel_do_not_change_the_preprocessing() -> None:
    plain = NetworkSettings(size=64).preprocessing(ANY)
    same = NetworkSettings(size=64, resize_size=64, resize_mode="squash", fill=[9, 9, 9])
    assert dataclasses.replace(same, centring="floor").preprocessing(ANY) == plain
    assert "fill" not in NetworkSettings(crop_pct=0.9, fill=[9, 9, 9]).preprocessing(ANY).to_json()
    assert (
        "fill"
        in NetworkSettings(resize_mode="longest", fill=[9, 9, 9]).preprocessing(ANY).to_json()
    )


@pytest.mark.parametrize("name", ["bare.tflite", "bare_saved"])
def test_a_network_that_does_not_record_resizing_is_refused_until_it_is_specified(
    name: str,
) -> None:
    arithmetic = NetworkSettings(mean=127.5, std=127.5)
    with pytest.raises(EncoderError) as caught:
        encoder_from(FILES / name, arithmetic)
    assert "give `resize_mode` (squash; or shortest, of which the centre is cropped" in str(
        caught.value
    )
    assert "`scale`" not in str(caught.value)
    with pytest.raises(EncoderError, match=r"`resize_mode` .* and `scale`, `mean` and `std`"):
        encoder_from(FILES / name, NetworkSettings())
    squashed = dataclasses.replace(arithmetic, resize_mode="squash")
    cropped = dataclasses.replace(arithmetic, crop_pct=0.875)
    assert_gives(encoder_from(FILES / name, squashed), VECTORS["backbone"])
    assert encoder_from(FILES / name, cropped).preprocessing.resize_mode == "shortest"


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
        ("resize_mode = 'crop'", "resize_mode is 'crop', expected one of squash, shortest"),
        ("resize_size = 0", "resize_size is 0"),
        ("crop_pct = 1.5", "crop_pct is 1.5"),
        ("crop_pct = 0.9\nresize_size = 256", "each decides the other"),
        ("crop = 'none'", "crop is 'none'"),
        ("crop = 'before'", "crop is 'before': give `crop_pct`"),
        ("centring = 'ceil'", "centring is 'ceil'"),
        ("fill = [0, 0, 256]", r"fill is \(0, 0, 256\)"),
        ("pixel_type = 'int8'", "pixel_type is 'int8'"),
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
