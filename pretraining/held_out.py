"""Families of pictures that training never sees: curves of a spirograph, and branching plants.

    python held_out.py FOLDER --classes 40 --pictures 12

They share no code with drawing/, so that features are not judged by what they were trained on. They
need NumPy and Pillow only; Pomona's own tests draw them too.
"""

from __future__ import annotations

import argparse
import colorsys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    Points = NDArray[np.float64]

_SIDE = 128
_DRAWN = 3 * _SIDE  # scaled down: smooth edges


def spirograph(rng: Generator) -> list[Points]:
    """A hypotrochoid: the way of a pen in a wheel that rolls in a ring."""
    teeth = rng.choice([5, 7, 9, 11, 13, 8, 10]), rng.integers(2, 5)
    ratio, pen = teeth[1] / teeth[0], rng.uniform(0.3, 1.1)
    t = np.linspace(0, 2 * np.pi * teeth[1], 500)
    turn = (1 - ratio) / ratio * t
    x = (1 - ratio) * np.cos(t) + pen * ratio * np.cos(turn)
    y = (1 - ratio) * np.sin(t) - pen * ratio * np.sin(turn)
    points = np.stack([x, y], -1)
    return [points / np.abs(points).max()]


def plant(rng: Generator) -> list[Points]:
    """Branches that branch by the same rule again and again."""
    turns = rng.normal(0, 0.6, rng.integers(2, 4))
    shrink = rng.uniform(0.55, 0.8, len(turns))
    strokes, tips = [], [(np.array([0.0, 1.0]), -np.pi / 2, 0.7)]
    for _ in range(5):
        grown = []
        for start, angle, length in tips:
            end = start + length * np.array([np.cos(angle), np.sin(angle)])
            strokes.append(np.stack([start, end]))
            grown += [
                (end, angle + turn, length * less) for turn, less in zip(turns, shrink, strict=True)
            ]
        tips = grown
    everything = np.concatenate(strokes)
    low, high = everything.min(0), everything.max(0)
    return [(stroke - (low + high) / 2) / (high - low).max() * 2 for stroke in strokes]


def picture(strokes: list[Points], width: float, hue: float | None, rng: Generator) -> Image.Image:
    """One picture of a class: its place, size, turn, colours and ground change."""
    ground = _colour(rng.random(), rng.uniform(0, 0.5), rng.uniform(0.5, 1))
    shown = rng.random() if hue is None else hue + rng.normal(0, 0.02)
    ink = _colour(shown, rng.uniform(0.5, 1), rng.uniform(0.1, 0.5))
    image = Image.new("RGB", (_DRAWN, _DRAWN), ground)
    draw = ImageDraw.Draw(image)
    angle, size = rng.normal(0, 0.2), rng.uniform(0.5, 0.95)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    at = rng.normal(0, 0.07, 2) + 1
    for stroke in strokes:
        points = (stroke @ turn * size * np.exp(rng.normal(0, 0.05, 2)) + at) * _DRAWN / 2
        draw.line([tuple(p) for p in points], ink, max(2, int(width * _DRAWN)), joint="curve")
    image = image.resize((_SIDE, _SIDE), Image.Resampling.BOX)
    image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 1))))
    noisy = np.asarray(image, np.float32) + rng.normal(0, rng.uniform(0, 12), (_SIDE, _SIDE, 3))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def draw_tree(folder: Path, classes: int, pictures: int, seed: int = 0) -> None:
    """Draw a folder of PNG files for each class; every other class keeps its colour."""
    for number in range(classes):
        rng = np.random.default_rng([seed, number])
        family = (spirograph, plant)[number % 2]
        strokes, width = family(rng), rng.uniform(0.01, 0.03)
        hue = rng.random() if number % 4 < 2 else None
        within = folder / f"{family.__name__} {number:03d}"
        within.mkdir(parents=True, exist_ok=True)
        for i in range(pictures):
            picture(strokes, width, hue, rng).save(within / f"{i:02d}.png")


def _colour(hue: float, saturation: float, value: float) -> tuple[int, ...]:
    return tuple(round(255 * x) for x in colorsys.hsv_to_rgb(hue % 1, saturation, value))


def main() -> None:
    """Draw what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--classes", type=int, default=40)
    parser.add_argument("--pictures", type=int, default=12)
    asked = parser.parse_args()
    draw_tree(asked.folder, asked.classes, asked.pictures)


if __name__ == "__main__":
    main()
