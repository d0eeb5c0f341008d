"""Planted dark, bright, blurred, very long and tiny images are listed, and no others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageFilter

import drawn
import pomona
from pomona.analysis.check.quality import QualityLimits
from pomona.encoder.encoder import Encoder


def blocks(width: int, height: int) -> Image.Image:
    """Squares of random greys, such as a sharp photo has edges."""
    levels = np.random.default_rng(0).integers(20, 235, (height // 8, width // 8), np.uint8)
    return Image.fromarray(levels).resize((width, height), Image.Resampling.NEAREST)


def test_each_planted_problem_is_in_its_list_alone(tmp_path: Path, encoder: Encoder) -> None:
    photo = blocks(320, 240)
    pictures = {
        "good": photo,
        "dark": photo.point(lambda level: level * 0.1),
        "bright": photo.point(lambda level: 255 - (255 - level) * 0.05),
        "blurred": photo.filter(ImageFilter.GaussianBlur(3)),
        "long": blocks(800, 80),
        "tiny": blocks(40, 24),
        "flat": Image.new("L", (64, 64), 128),
    }
    source, table = tmp_path / "pictures", tmp_path / "features"
    source.mkdir()
    for name, picture in pictures.items():
        (source / f"{name}.png").write_bytes(drawn.encode(picture.convert("RGB"), "PNG"))
    (source / "broken.png").write_bytes(b"")
    pomona.extract(source, table, encoder=encoder, engine=pomona.LocalEngine(workers=1))

    found = pomona.check_quality(table)
    lists = json.loads(json.dumps(found.to_json()))
    assert lists.pop("unmeasured") == 0
    names = {
        question: [Path(image["path"]).stem for image in each] for question, each in lists.items()
    }
    assert names == {
        "dark": ["dark"],
        "bright": ["bright"],
        "blurred": ["blurred"],
        "odd_aspect": ["long"],
        "tiny": ["tiny"],
    }
    (value,) = found.odd_aspect.to_pandas()["value"]
    assert value == 10

    none = QualityLimits(dark=0, bright=1, blurred=0, aspect=10, tiny=24)
    exact = pomona.check_quality(table, none)
    lists = (exact.dark, exact.bright, exact.blurred, exact.odd_aspect, exact.tiny)
    assert [len(each) for each in lists] == [0] * 5
    all_of_them = pomona.check_quality(table, QualityLimits(tiny=1000)).tiny
    values = all_of_them.to_pandas()["value"].tolist()
    assert values == sorted(values) == [24, 64, 80, *[240] * 4]

    for part in table.glob("part-*"):
        rows = pq.read_table(part).drop_columns(["brightness", "sharpness"])
        pq.write_table(rows, part)
    earlier = pomona.check_quality(table)
    assert (len(earlier.dark), len(earlier.tiny), earlier.unmeasured) == (0, 1, 7)
