"""The content of a feature table: counts, checks of the vectors, provenance, first rows."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.schema import QUALITY_COLUMNS
from pomona.source.missing_files import is_missing
from pomona.table.failed_files import NAMED_FAILURES, FailedFile, failed_in
from pomona.table.feature_table import FeatureTable

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = [
    "Inspection",
    "VectorCheck",
    "failed_files",
    "inspect",
    "sorted_labels",
]

_COLUMNS = ["path", "label", "features", "status", "error", "width", "height", "format"]
_SHARES = (0.05, 0.5, 0.95)
_STEPS = 1000  # for each 1: quantiles of any number of rows take some kilobytes
_SHOWN_COMPONENTS = 4


@dataclass(slots=True)
class VectorCheck:
    """The checks of the vectors.

    Attributes:
        dimension: length that every vector should have, from the provenance.
        vectors: number of rows with a vector.
        wrong_length: number of vectors of another length.
        not_finite: number of vectors with a NaN or an infinity.
        all_zero: number of vectors of zeros only.
        missing: number of rows with status `ok` and no vector.
    """

    dimension: int
    vectors: int = 0
    wrong_length: int = 0
    not_finite: int = 0
    all_zero: int = 0
    missing: int = 0

    @property
    def passed(self) -> bool:
        """Whether all checks passed."""
        return not (self.wrong_length or self.not_finite or self.all_zero or self.missing)


@dataclass(frozen=True, slots=True)
class Inspection:
    """The result of `inspect`.

    Attributes:
        rows: number of rows.
        statuses: number of rows by status.
        labels: number of rows by label; None means no label.
        check: the checks of the vectors.
        quality: quantiles 0.05, 0.5 and 0.95 of `brightness` and `sharpness`, to 0.001, by column
            and share; a column without values is missing.
        unmeasured: number of rows with status `ok` without these, which an earlier version made.
        provenance: the encoder that made the table, and how images were decoded.
        first_rows: a few rows, with vectors cut to their first components.
        missing_files: number of rows whose file no longer exists; None if that was not checked.
        files_elsewhere: number of rows whose file is on another file system or cannot be checked.
        failed_files: the first few rows without a vector.
    """

    rows: int
    statuses: Counter[str]
    labels: Counter[str | None]
    check: VectorCheck
    quality: dict[str, dict[float, float]]
    unmeasured: int
    provenance: dict[str, str]
    first_rows: list[dict[str, Any]]
    missing_files: int | None = None
    files_elsewhere: int = 0
    failed_files: list[FailedFile] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the object that `pomona inspect --json` prints."""
        return {
            "rows": self.rows,
            "statuses": dict(self.statuses),
            "labels": {k: v for k, v in sorted_labels(self.labels) if k is not None},
            "unlabelled": self.labels[None],
            "check": {**asdict(self.check), "passed": self.check.passed},
            "quality": self.quality,
            "unmeasured": self.unmeasured,
            "missing_files": self.missing_files,
            "files_elsewhere": self.files_elsewhere,
            "provenance": self.provenance,
            "first_rows": self.first_rows,
            "failed_files": [asdict(file) for file in self.failed_files],
        }


def inspect(
    table: FeatureTable | str | os.PathLike[str],
    first_rows: int = 5,
    *,
    look_at_files: bool = False,
) -> Inspection:
    """Read a table once, streaming, and return its content.

    Args:
        table: a feature table, its path or URI.
        first_rows: number of first rows to return.
        look_at_files: count rows whose file no longer exists; this checks each path.

    Raises:
        TableError: it is not a feature table, or mixes two encoders.
    """
    table = FeatureTable.of(table)
    provenance = table.provenance()
    check = VectorCheck(int(provenance["dimension"]))
    statuses: Counter[str] = Counter()
    labels: Counter[str | None] = Counter()
    shown: list[dict[str, Any]] = []
    looks: Counter[bool | None] = Counter()
    failed: list[FailedFile] = []
    counts = {name: np.zeros(2 * _STEPS, np.int64) for name in QUALITY_COLUMNS}
    for batch in table.batches([*_COLUMNS, *QUALITY_COLUMNS]):
        statuses.update(batch["status"].to_pylist())
        labels.update(batch["label"].to_pylist())
        _check_vectors(batch, check)
        for name in QUALITY_COLUMNS:
            values = batch[name].drop_null().to_numpy() * _STEPS
            steps = np.rint(values).clip(0, 2 * _STEPS - 1).astype(int)
            counts[name] += np.bincount(steps, minlength=2 * _STEPS)
        if look_at_files:
            looks.update(map(is_missing, batch["path"].to_pylist()))
        failed += islice(failed_in(batch), NAMED_FAILURES - len(failed))
        if len(shown) < first_rows:
            shown += map(_shorten, batch.slice(0, first_rows - len(shown)).to_pylist())
    missing = looks[True] if look_at_files else None
    return Inspection(
        statuses.total(),
        statuses,
        labels,
        check,
        {name: _quantiles(count) for name, count in counts.items() if count.any()},
        statuses["ok"] - int(counts["brightness"].sum()),
        provenance,
        shown,
        missing,
        looks[None],
        failed,
    )


def failed_files(table: FeatureTable) -> Iterator[FailedFile]:
    """Yield the rows without a vector while the table is read. Vectors are not read.

    Raises:
        TableError: it is not a feature table, or mixes two encoders.
    """
    table.provenance()
    for batch in table.batches(["path", "status", "error"]):
        yield from failed_in(batch)


def sorted_labels(labels: Counter[str | None]) -> list[tuple[str | None, int]]:
    """Return labels and their counts in alphabetical order; None comes last."""
    return sorted(labels.items(), key=lambda item: (item[0] is None, item[0] or ""))


def _check_vectors(batch: pa.RecordBatch, check: VectorCheck) -> None:
    features = batch["features"]
    present = features.is_valid()
    check.vectors += present.sum().as_py() or 0
    lengths = np.diff(features.offsets.to_numpy())[present.to_numpy(zero_copy_only=False)]
    wrong = int((lengths != check.dimension).sum())
    check.wrong_length += wrong
    ok = np.asarray(batch["status"].to_pylist()) == "ok"
    check.missing += int((ok & ~present.to_numpy(zero_copy_only=False)).sum())
    if wrong:
        return  # vectors of different lengths form no matrix, and the check has failed already
    # `flatten` drops nulls: (vectors, dimension) float32
    matrix = features.flatten().to_numpy(zero_copy_only=False).reshape(-1, check.dimension)
    check.not_finite += int((~np.isfinite(matrix)).any(axis=1).sum())
    check.all_zero += int((matrix == 0).all(axis=1).sum())


def _quantiles(counts: NDArray[np.int64]) -> dict[float, float]:
    """Return the value at each of `_SHARES`, from the number of values by rounded value."""
    sums = np.cumsum(counts)
    return {share: int(np.searchsorted(sums, share * sums[-1])) / _STEPS for share in _SHARES}


def _shorten(row: dict[str, Any]) -> dict[str, Any]:
    vector = row["features"]
    if vector is not None:
        # JSON has no NaN.
        row["features"] = [
            round(value, 4) if value is not None and math.isfinite(value) else None
            for value in vector[:_SHOWN_COMPONENTS]
        ]
    return row
