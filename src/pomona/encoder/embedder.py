"""What `Encoder.embed` calls: set by the package, since encoders know no runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["embed_by", "embedder"]

_embedders: list[Callable[..., Any]] = []


def embed_by(embed: Callable[..., Any]) -> None:
    """Use a function with the parameters of `pomona.embed`."""
    _embedders[:] = [embed]


def embedder() -> Callable[..., Any]:
    """Return the function."""
    return _embedders[0]
