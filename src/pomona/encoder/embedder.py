"""The function that `Encoder.embed` calls. The package sets it: encoders import no runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["embed_by", "embedder"]

_embedders: list[Callable[..., Any]] = []


def embed_by(embed: Callable[..., Any]) -> None:
    """Set the function; it has the parameters of `pomona.embed`."""
    _embedders[:] = [embed]


def embedder() -> Callable[..., Any]:
    """Return the function."""
    return _embedders[0]
