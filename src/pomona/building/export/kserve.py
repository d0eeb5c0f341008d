"""Encoder -> a folder with the encoder's file and a program for KServe's Python model server."""

from __future__ import annotations

from pathlib import Path

from pomona.building.export.folder import Served, copy_program
from pomona.encoder.encoder import Encoder

__all__ = ["write"]


def write(encoder: Encoder, name: str, folder: Path) -> Served:
    """Write the encoder's file, for images, and the program."""
    encoder.for_images().save(folder / f"{name}.encoder")
    copy_program("server.py", folder / "server.py")
    copy_program("check.py", folder / "check.py")
    return Served("kserve.md")
