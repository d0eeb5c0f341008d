"""Files without a vector: a run names the first few of them, and `inspect --failed` lists all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["NAMED_FAILURES", "FailedFile", "failed_in"]

NAMED_FAILURES = 5
"""Failed files that a summary names one by one."""


@dataclass(frozen=True, slots=True)
class FailedFile:
    """A row without a vector.

    Attributes:
        path: of the file, as the table has it.
        status: why, in one word.
        error: why, in one sentence.
    """

    path: str
    status: str
    error: str


def failed_in(rows: pa.RecordBatch | pa.Table) -> Iterator[FailedFile]:
    """The rows without a vector, from the columns `path`, `status` and `error`."""
    for number, status in enumerate(rows["status"].to_pylist()):
        if status != "ok":
            error = rows["error"][number].as_py()
            yield FailedFile(rows["path"][number].as_py(), status, error or "")
