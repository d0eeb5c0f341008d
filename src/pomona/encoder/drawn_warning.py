"""The warning that vectors come from the drawn weights."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

__all__ = ["DrawnWeightsWarning", "warn_of_drawn"]

_DRAWN = "drawn"


class DrawnWeightsWarning(UserWarning):
    """The vectors come from Pomona's drawn weights, which are for trying it out only."""


def warn_of_drawn(provenance: Mapping[str, str]) -> None:
    """Warn if vectors come from the weights that Pomona ships.

    Args:
        provenance: of an encoder, a table or a classifier.
    """
    if provenance.get("weights") == _DRAWN:
        warnings.warn(
            "these features come from `weights` drawn, which are only for trying Pomona: they were "
            "trained on drawn pictures and distinguish photos much worse than ImageNet's; for real "
            "work use `weights` imagenet or a weights file",
            DrawnWeightsWarning,
            stacklevel=3,
        )
