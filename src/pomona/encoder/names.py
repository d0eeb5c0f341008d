"""Names of networks for the command line, without imports."""

from __future__ import annotations

__all__ = ["DEFAULT_MODEL"]

DEFAULT_MODEL = "mobilenet_v2"
