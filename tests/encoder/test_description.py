"""The preprocessing in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pomona.building.network_settings import NetworkSettings
from pomona.encoder.description import describe_preprocessing, pipeline
from pomona.encoder.networks import CARDS
from pomona.encoder.preprocessing import Preprocessing

ANY = Preprocessing(height=1, width=1, mean=(0.0,) * 3, std=(1.0,) * 3)
IMAGENET = {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CLIP = {
    "scale": 1 / 255,
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
}

LINES: list[tuple[dict[str, Any], str]] = [
    (
        {"size": 224, "resize_size": 256, **IMAGENET},
        "resize shorter side to 256 (bicubic) -> centre crop 224 -> /255 -> ImageNet mean/std",
    ),
    (
        {"size": 224, "resize_mode": "shortest", "centring": "floor", **CLIP},
        "resize shorter side to 224 (bicubic) -> centre crop 224 (rounded down) -> /255 -> "
        "CLIP mean/std",
    ),
    (
        {"size": (96, 160), "crop_pct": 0.8, "resize": "bilinear", "scale": 1 / 255},
        "resize to cover 120x200 (bilinear) -> centre crop 96x160 -> /255",
    ),
    (
        {"size": 384, "resize_mode": "longest", "fill": (124, 116, 104), "mean": 128.0},
        "resize longer side to 384 (bicubic) -> centre crop or pad 384 (RGB 124, 116, 104) -> "
        "- 128",
    ),
    (
        {"size": 224, "crop": "before", "crop_pct": 0.875, "mean": 127.0, "std": 128.0},
        "centre crop 0.875 of the shorter side, square -> resize to 224 (bicubic) -> - 127 -> /128",
    ),
    (
        {"size": 224, "pixel_type": "float32", "mean": 127.5, "std": 127.5},
        "resize to 224 (bicubic, not rounded) -> /127.5 - 1",
    ),
    ({"size": 32, "channel_order": "grey"}, "luma -> resize to 32 (bicubic) -> pixels 0..255"),
]


@pytest.mark.parametrize(("settings", "line"), LINES)
def test_all_steps_stand_in_one_line(settings: dict[str, Any], line: str) -> None:
    assert pipeline(NetworkSettings(**settings).preprocessing(ANY)) == line


def test_bgr_and_its_mean_are_named() -> None:
    assert pipeline(CARDS["resnet50"].preprocessing) == (
        "resize to 224 (bicubic) -> RGB to BGR -> - (103.939, 116.779, 123.68)"
    )


def test_provenance_of_a_squash_stays_as_in_earlier_tables() -> None:
    assert describe_preprocessing(CARDS["mobilenet_v2"].preprocessing)["resize"] == (
        "bicubic, squash"
    )


CHANGES: list[dict[str, Any]] = [
    {"resize_mode": "shortest"},
    {"resize_mode": "longest"},
    {"resize_size": (48, 48)},
    {"crop_before": 0.5},
    {"resize_mode": "shortest", "centring": "floor"},
    {"resize_mode": "longest", "fill": (1, 2, 3)},
    {"pixel_type": "float32"},
]


def test_each_setting_shows_in_the_line_and_in_the_provenance() -> None:
    spec = replace(ANY, height=40, width=40)
    specs = [spec, *(replace(spec, **change) for change in CHANGES)]
    assert len({pipeline(each) for each in specs}) == len(specs)
    assert len({describe_preprocessing(each)["resize"] for each in specs}) == len(specs)
