"""The brightness and the sharpness of a picture, for the table's columns of the same names.

A few rows and columns of pixels are measured, not all: that takes 0.1 ms for a small picture and
1 ms for 12 megapixels (benchmarks/quality.py).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Size = tuple[int, int]  # width and height

__all__ = ["SCALE", "measure"]

SCALE = 256
"""The length in pixels of a picture's longer side when its sharpness is measured.

It is about what networks see. A larger picture is reduced to it, a smaller one is not enlarged.
"""

_LINES = 8  # in each direction; 16 and 32 separate blurred photos no better
_SAMPLES = 16 * SCALE  # of a line: for 178 million pixels in a row, Pillow's filter takes 5.7 GB


def measure(image: Image.Image) -> tuple[float, float | None]:
    """Measure a picture. All sums are integers, so the result is the same on every machine.

    Luma is that of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B, rounded.

    Sharpness is sqrt(E2 / 2 E1), where E1 is the mean squared difference of neighbouring pixels
    and E2 the mean squared second difference. These are the focus measures GRAE, energy of
    gradient, and LAPE, energy of Laplacian, in S. Pertuz, D. Puig and M. A. Garcia, "Analysis of
    focus measure operators for shape-from-focus", Pattern Recognition 46 (2013). Either grows with
    the contrast, as does OpenCV's variance of the Laplacian; their ratio does not. For a step, E2
    is 2 E1; for a step behind a Gaussian blur of s pixels, it is E1 / 2 s². From the
    squares, the energy of the error of rounded pixels is subtracted, 1/6 and 1/2, where pixels
    vary: that error looks sharp in a picture that is blurred so much that it varies by about 1.

    Args:
        image: mode RGB, at least one pixel.

    Returns:
        The brightness, which is the mean luma, 0 (black) to 1 (white). And the sharpness: about 1
        for hard edges, and 1 / 2s for edges as soft as a Gaussian blur of s pixels makes them if
        the longer side is `SCALE` pixels. It is None for a picture without edges.
    """
    width, height = image.size
    scale = min(1.0, SCALE / max(width, height))
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    rows = _levels(image, (min(width, _SAMPLES), _LINES), (across, _LINES))
    columns = _levels(image, (_LINES, min(height, _SAMPLES)), (_LINES, down))
    # (across + down, 8): neighbours in a line are neighbours along the first axis
    levels = np.concatenate((rows.T, columns), dtype=np.int32)
    return int(levels.sum()) / (255 * levels.size), _sharpness(levels, across)


def _levels(image: Image.Image, some: Size, size: Size) -> NDArray[np.uint8]:
    """Return the luma of some rows or columns of a picture, reduced."""
    lines = image.resize(some, Image.Resampling.NEAREST).convert("L")
    if size != some:
        lines = lines.resize(size, Image.Resampling.BILINEAR)
    return np.frombuffer(lines.tobytes(), np.uint8).reshape(size[::-1])


def _sharpness(levels: NDArray[np.int32], joint: int) -> float | None:
    # Few calls on one array: after a network has run, each call takes 10 us.
    first = levels[1:] - levels[:-1]
    first[joint - 1] = 0  # from a row to a column
    second = first[1:] - first[:-1]
    second[max(0, joint - 2) : joint] = 0
    # An int32 is enough for each sum: 512 x 8 squares of at most 510.
    energy1, energy2 = int(np.vdot(first, first)), int(np.vdot(second, second))
    # Windows of four differences. With fewer or many more, blurred photos pass for sharp ones.
    two = (first[1:] != 0) | (first[:-1] != 0)
    varied = int(np.count_nonzero(two[2:] | two[:-2]))
    above1, above2 = 6 * energy1 - varied, 2 * energy2 - varied
    return math.sqrt(1.5 * max(0, above2) / above1) if above1 > 0 else None
