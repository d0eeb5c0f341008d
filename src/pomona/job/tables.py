"""The interfaces of a table for a plan: reading it, and changing it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from pomona.job.known_contents import StoredContents
from pomona.table.row_index import Contents, IndexBuilder, NewLabels, RowIndex, RowsToDelete

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["NO_ROWS", "ChangeableTable", "ReadableTable"]


class ReadableTable(StoredContents, Protocol):
    """A table that a plan reads."""

    def index(self) -> RowIndex:
        """Return the index of the rows, with the states of their files."""

    def paths_in(self, parts: Iterable[str]) -> Iterator[list[str]]:
        """Yield the paths of all rows in some part files, some thousand at a time."""


class ChangeableTable(Protocol):
    """A table that is held for a run."""

    def delete_rows(self, rows: RowsToDelete) -> None:
        """Delete rows."""

    def relabel(self, labels: NewLabels) -> None:
        """Change labels."""

    def append_batches(self, rows: list[pa.RecordBatch], provenance: Mapping[str, str]) -> None:
        """Add rows."""


class _NoRows:
    """A table without rows."""

    def index(self) -> RowIndex:
        return IndexBuilder().build()

    def paths_in(self, parts: Iterable[str]) -> Iterator[list[str]]:  # noqa: ARG002 - there are none
        return iter(())

    def contents_in(self, parts: Iterable[str]) -> Iterator[Contents]:  # noqa: ARG002 - there are none
        return iter(())

    def rows_with(
        self,
        digests: Mapping[str, Sequence[str]],  # noqa: ARG002 - there are none
    ) -> Iterator[pa.RecordBatch]:
        return iter(())


NO_ROWS: ReadableTable = _NoRows()
"""The table of a run that creates or overwrites it."""
