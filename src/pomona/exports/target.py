"""What a target of an export is: files that are written whole, or a table of a database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import pyarrow as pa

from pomona.errors import UsageError
from pomona.exports.rows import Rows

__all__ = ["LISTED", "Database", "FileTarget", "of_export"]

LISTED = pa.schema([("path", pa.string()), ("label", pa.string()), ("content_sha256", pa.string())])
"""The columns that tell whether a row of a target is the same as that of the table."""


class FileTarget(ABC):
    """A file or a folder. An export writes all rows, or leaves it as it was."""

    has_float16: bool
    """Whether it can hold 16-bit floats."""

    @abstractmethod
    def about(self) -> dict[str, str] | None:
        """Return the provenance of the rows there; None if nothing exists there.

        Raises:
            UsageError: something exists there that no export wrote.
        """

    @abstractmethod
    def write(self, rows: Iterator[Rows], count: int, about: Mapping[str, str]) -> None:
        """Write all rows with their provenance, in place of what exists there.

        Args:
            rows: the rows.
            count: how many there are.
            about: their provenance, with `dimension` and `vector_type`.

        Raises:
            UsageError: it cannot be written. What was there stays.
        """


class Database(ABC):
    """A table of a database, in which a row is found by its path.

    The methods raise the exceptions of the library, which are in `errors`.
    """

    has_float16: bool
    """Whether it can hold 16-bit floats."""
    is_atomic: ClassVar[bool]
    """Whether nothing is written before `commit`."""
    errors: tuple[type[Exception], ...]
    """What the library of the database raises."""

    @abstractmethod
    def about(self) -> dict[str, str] | None:
        """Open the database, and return the provenance of the table; None if there is none.

        Raises:
            UsageError: the table exists, and no export made it.
        """

    @abstractmethod
    def create(self, about: Mapping[str, str]) -> None:
        """Create the table without rows, in place of the one that exists.

        Args:
            about: the provenance of its rows, with `dimension` and `vector_type`.
        """

    @abstractmethod
    def listed(self) -> Iterator[pa.RecordBatch]:
        """Yield the columns `LISTED` of all rows."""

    @abstractmethod
    def insert(self, rows: Rows) -> None:
        """Add rows whose paths the table does not have."""

    @abstractmethod
    def update(self, rows: Rows) -> None:
        """Replace the rows of these paths."""

    @abstractmethod
    def delete(self, paths: Sequence[str]) -> None:
        """Delete the rows of these paths."""

    @abstractmethod
    def commit(self) -> None:
        """Finish the export."""

    @abstractmethod
    def close(self) -> None:
        """Close the database. If it is atomic and there was no commit, it is as it was."""


def of_export(found: dict[str, str], target: Database, name: str) -> dict[str, str]:
    """Return the provenance that a database has for a table.

    Raises:
        UsageError: it has none.
    """
    if "fingerprint" not in found:
        raise UsageError(f"{target} already has {name}, which no export made: give another `name`")
    return found
