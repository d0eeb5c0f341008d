"""Files without a vector: a run lists the first few, and `inspect --failed` lists all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["NAMED_FAILURES", "FailedFile", "failed_in"]

NAMED_FAILURES = 5
"""The number of failed files that a summary lists."""


@dataclass(frozen=True, slots=True)
class FailedFile:
    """A row without a vector.

    Attributes:
        path: path of the file, as in the table.
        status: the kind of failure, in one word.
        error: the reason, in one line.
    """

    path: str
    status: str
    error: str


def failed_in(rows: pa.RecordBatch | pa.Table) -> Iterator[FailedFile]:
    """Yield the rows without a vector, from the columns `path`, `status` and `error`."""
    for number, status in enumerate(rows["status"].to_pylist()):
        if status != "ok":
            error = rows["error"][number].as_py()
            yield FailedFile(rows["path"][number].as_py(), status, error or "")
