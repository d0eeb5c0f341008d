"""What command lines need to know of networks; nothing is imported for it."""

from __future__ import annotations

__all__ = ["DEFAULT_MODEL"]

DEFAULT_MODEL = "mobilenet_v2"
