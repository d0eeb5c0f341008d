"""Folders of the repository, and of the real data beside it."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).resolve().parent
REPOSITORY = TESTS.parent
POISON = TESTS / "poison"
"""On a worker's PYTHONPATH, this folder makes some images fatal: see its sitecustomize.py."""
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
"""Real images, real weights and reference vectors, if they are on this machine."""
