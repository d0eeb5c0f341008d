"""The rows of a table as the page shows them, held in memory without their vectors."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pomona.errors import UsageError
from pomona.io.location import path_of_row

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.table.feature_table import FeatureTable

__all__ = ["ShownRows", "read_rows"]

_COLUMNS = ["path", "label", "status", "error", "width", "height"]
_EXPORTED = ["path", "label", "status", "width", "height"]


@dataclass(frozen=True, slots=True)
class ShownRows:
    """Rows by their numbers: first the N rows with a vector in the table's order, then the others.

    Attributes:
        placed: N.
        columns: `path`, `label`, `status`, `error`, `width` and `height` of M rows.
        labels: the labels, the most frequent first.
        label: (M,) int32, numbers of labels; -1 without a label.
        statuses: the statuses, `ok` first.
        status: (M,) uint8, numbers of statuses.
    """

    placed: int
    columns: pa.Table
    labels: list[str]
    label: NDArray[np.int32]
    statuses: list[str]
    status: NDArray[np.uint8]

    def __len__(self) -> int:
        return int(self.columns.num_rows)

    def path(self, row: int) -> str:
        """Return the path of a row as the table has it."""
        path: str = self.columns["path"][row].as_py()
        return path

    def at(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Return rows for the page, with paths as commands take them."""
        found = self.columns.take(pa.array(rows, pa.int64())).to_pylist()
        return [
            {"row": number, **row, "path": path_of_row(row["path"])}
            for number, row in zip(rows, found, strict=True)
        ]

    def csv(self, rows: NDArray[np.uint32]) -> str:
        """Return rows as CSV, which `extract` takes as a list."""
        file = io.StringIO()
        writer = csv.DictWriter(file, _EXPORTED, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for part in _parts(rows):
            writer.writerows(self.at(part))
        return file.getvalue()

    def lines(self, rows: NDArray[np.uint32]) -> str:
        """Return the paths of rows, one in each line.

        Raises:
            UsageError: a path has a line break.
        """
        paths = [row["path"] for part in _parts(rows) for row in self.at(part)]
        if any("\n" in path or "\r" in path for path in paths):
            raise UsageError("a path contains a line break: export CSV instead")
        return "".join(f"{path}\n" for path in paths)


def read_rows(table: FeatureTable) -> ShownRows:
    """Read the rows of a table: some hundred bytes each."""
    placed, others = [], []
    for batch in table.batches(_COLUMNS):
        is_ok = pc.equal(batch["status"], "ok")
        placed.append(batch.filter(is_ok).select(_COLUMNS))
        others.append(batch.filter(pc.invert(is_ok)).select(_COLUMNS))
    count = sum(batch.num_rows for batch in placed)
    columns = pa.Table.from_batches([*placed, *others])
    labels, label = _numbered(columns["label"])
    statuses, status = _numbered(columns["status"])
    if "ok" in statuses[1:]:  # more failed rows than others
        at = statuses.index("ok")
        statuses[0], statuses[at] = statuses[at], statuses[0]
        status = np.where(status == 0, at, np.where(status == at, 0, status))
    return ShownRows(count, columns, labels, label, statuses, status.astype(np.uint8))


def _numbered(column: pa.ChunkedArray) -> tuple[list[str], NDArray[np.int32]]:
    """Return the values of a column, the most frequent first, and their numbers by row."""
    counts = pc.value_counts(column.drop_null()).to_pylist()
    counts.sort(key=lambda item: (-item["counts"], item["values"]))
    names = [item["values"] for item in counts]
    numbers = pc.fill_null(pc.index_in(column, pa.array(names, pa.string())), -1)
    return names, numbers.to_numpy().astype(np.int32)


def _parts(rows: NDArray[np.uint32]) -> Iterator[list[int]]:
    """Yield the numbers of rows in parts: Python's objects of a million rows would take 1 GB."""
    for start in range(0, len(rows), 8192):
        yield rows[start : start + 8192].tolist()
