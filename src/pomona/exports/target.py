"""What a target of an export is: files that are written whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from pomona.exports.rows import Rows

__all__ = ["FileTarget"]


class FileTarget(Protocol):
    """A file or a folder. An export writes all rows, or leaves it as it was."""

    has_float16: bool
    """Whether it can hold 16-bit floats."""

    def about(self) -> dict[str, str] | None:
        """Return the provenance of the rows there; None if nothing exists there.

        Raises:
            UsageError: something exists there that no export wrote, or it cannot be written.
        """

    def write(self, rows: Iterator[Rows], count: int, about: Mapping[str, str]) -> None:
        """Write all rows with their provenance, in place of what exists there.

        Args:
            rows: the rows.
            count: how many there are.
            about: their provenance, with `dimension` and `vector_type`.

        Raises:
            UsageError: it cannot be written. What was there stays.
        """
