"""Folders of networks for images and texts, with what transformers computes of them.

tests/goldens/regenerate_text.py wrote them.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noise import noise
from places import TESTS
from pomona.building.network_files import build
from pomona.building.network_settings import NetworkSettings
from pomona.encoder.encoder import Encoder

FOLDERS = TESTS / "goldens" / "text"
ANSWERS: dict[str, Any] = json.loads((FOLDERS / "answers.json").read_text())
IMAGES = [noise(*size) for size in np.load(FOLDERS.with_name("folders") / "features.npz")["sizes"]]
NAMES = ("clip", "clip_joint", "siglip", "siglip2", "immich")
SCORED = NAMES[:-1]


@cache
def encoder_in(name: str) -> Encoder:
    return build(FOLDERS / name, NetworkSettings())


def unit(vectors: Any) -> NDArray[np.float64]:
    array = np.asarray(vectors, np.float64)
    return array / np.linalg.norm(array, axis=1, keepdims=True)
