"""Pictures of noise: the hardest for resize filters, and the same on every machine."""

from __future__ import annotations

import numpy as np
from PIL import Image

SIZES = (
    *((1, 1), (2, 3), (1, 40), (40, 1), (97, 61), (61, 97), (224, 224), (225, 223)),
    *((200, 150), (150, 200), (333, 331), (640, 97), (97, 641), (500, 31), (31, 503)),
)
"""Width and height: odd sizes, sides of one pixel, extreme aspect ratios, smaller than crops."""


def noise(width: int, height: int) -> Image.Image:
    """Draw noise over a ramp, RGB."""
    random = np.random.default_rng([width, height])
    ramp = np.linspace(0, 128, width * height).reshape(height, width, 1)
    return Image.fromarray((ramp + random.integers(0, 128, (height, width, 3))).astype(np.uint8))
