"""Conversion of numbers of any range to grey levels 0..255 without clipping."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["displayed_range", "finite_range", "to_levels"]

_ROWS = 64  # at once: float64 takes 8 bytes for each pixel


def finite_range(values: npt.NDArray[Any]) -> tuple[float, float] | None:
    """Return the smallest and the largest finite value; None if there are none."""
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    return (float(finite.min()), float(finite.max())) if finite.size else None


def displayed_range(
    extremes: tuple[float, float] | None, kind: str, full: float = 65535.0
) -> tuple[float, float]:
    """Return the values that become black and white.

    Args:
        extremes: the smallest and the largest value of the picture; None if there are none.
        kind: NumPy's kind: `f` for floats; all others are whole numbers.
        full: the range of whole numbers is 0 to `full` if all of them lie within it.

    Returns:
        For floats, 0 and 1 if all lie within that range, or else 0 and 255. If values lie outside
        all of these ranges, the smallest and the largest value.
    """
    low, high = extremes or (0.0, 0.0)
    if kind == "f":
        full = 1.0 if high <= 1 else 255.0
    return (0.0, full) if low >= 0 and high <= full else (low, high)


def to_levels(values: npt.NDArray[Any], black: float, white: float) -> npt.NDArray[np.uint8]:
    """Scale linearly so that `black` becomes 0 and `white` 255, rounded.

    NaN becomes 0. Values beyond black or white become 0 or 255.
    """
    levels = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), _ROWS):
        share = (values[top : top + _ROWS] - np.float64(black)) / ((white - black) or 1.0)
        levels[top : top + _ROWS] = np.rint(np.nan_to_num(share).clip(0, 1) * 255)
    return levels
