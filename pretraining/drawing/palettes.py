"""Colours of things and of scenes."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

_EARTH = ((0.02, 0.14), (0.25, 0.75), (0.2, 0.85))
_GREEN = ((0.2, 0.42), (0.25, 0.85), (0.2, 0.85))
_VIVID = ((0.0, 1.0), (0.65, 1.0), (0.5, 1.0))
_MUTED = ((0.0, 1.0), (0.08, 0.45), (0.25, 0.9))
_GREY = ((0.0, 1.0), (0.0, 0.08), (0.03, 1.0))
_SKY = ((0.5, 0.66), (0.1, 0.7), (0.4, 1.0))
_BANDS = (_EARTH, _GREEN, _VIVID, _MUTED, _GREY, _SKY)
# Photos of objects are mostly muted, earthen or grey; vivid colours are for flowers and goods.
_WEIGHTS = np.array([0.2, 0.1, 0.28, 0.2, 0.17, 0.05])


def colour(rng: Generator) -> NDArray[np.float32]:
    """Draw one colour, (3,) float32 RGB in 0..255."""
    hue, saturation, value = _BANDS[rng.choice(len(_BANDS), p=_WEIGHTS)]
    rgb = colorsys.hsv_to_rgb(rng.uniform(*hue), rng.uniform(*saturation), rng.uniform(*value))
    return np.array(rgb, np.float32) * 255


def near(rng: Generator, base: NDArray[np.float32], spread: float) -> NDArray[np.float32]:
    """Draw a colour near another: its brightness changed, its channels moved by `spread`."""
    moved = base * rng.uniform(1 - spread, 1 + spread) + rng.normal(0, 60 * spread, 3)
    return np.clip(moved, 0, 255).astype(np.float32)


def palette(rng: Generator, size: int) -> NDArray[np.float32]:
    """Draw colours that go together, (size, 3): free, of one hue, or two and what is between."""
    kind = rng.random()
    if kind < 0.4:
        return np.stack([colour(rng) for _ in range(size)])
    if kind < 0.7:
        base = colour(rng)
        return np.stack([near(rng, base, 0.45) for _ in range(size)])
    first, second = colour(rng), colour(rng)
    share = rng.random((size, 1)).astype(np.float32)
    return first * share + second * (1 - share)
