"""The target that a user means: `kind:place`."""

from __future__ import annotations

import os

from pomona.errors import UsageError
from pomona.exports.target import FileTarget

__all__ = ["target_of"]


def target_of(to: str) -> FileTarget:
    """Return the target at `kind:place`. Nothing is opened yet.

    Raises:
        UsageError: the kind is unknown, or nothing can be written at the place.
    """
    kind, _, place = to.partition(":")
    place = os.path.expanduser(place)  # noqa: PTH111 - it may be a URL
    if place and kind == "npy":
        from pomona.exports.files.npy import NpyFolder

        return NpyFolder(place)
    if place and kind == "csv":
        from pomona.exports.files.csv import CsvFile

        return CsvFile(place)
    raise UsageError(f"`to` is {to!r}: expected npy:FOLDER or csv:FILE")
