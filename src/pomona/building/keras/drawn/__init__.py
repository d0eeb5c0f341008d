"""The weights in the package: MobileNetV2, trained on drawn pictures only.

`mobilenet_v2.weights.h5` is a Keras weights file in float16. `MODEL_CARD.md` describes its training
and its use. `card.json` has its digest. `pretraining/export.py` writes the three.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pomona.errors import EncoderError

__all__ = ["DRAWN", "drawn_weights"]

DRAWN = "drawn"
"""The name of these weights, for `weights` and in a table's provenance."""

_FOLDER = Path(__file__).parent


def drawn_weights(model: str) -> Path:
    """Return the weights file of a network after checking its digest.

    Raises:
        EncoderError: there are no such weights for this network, or the file was changed.
    """
    card = json.loads((_FOLDER / "card.json").read_text("utf-8"))
    if model != card["model"]:
        raise EncoderError(
            f"there are no drawn weights for {model}, only for {card['model']}: choose that "
            "network or other weights"
        )
    path: Path = _FOLDER / card["file"]
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise EncoderError(f"cannot read {path}: {error.strerror or error}") from error
    if digest != card["sha256"]:
        raise EncoderError(
            f"{path} has SHA-256 {digest[:12]}, expected {card['sha256'][:12]}: "
            "install Pomona again"
        )
    return path
