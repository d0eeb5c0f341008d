"""A feature table as one matrix, for notebooks: `pomona.read_features`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pomona.analysis.inspection import sorted_labels
from pomona.analysis.vectors import Block, open_vectors
from pomona.errors import UsageError
from pomona.messages import count_of
from pomona.notebook import html_card, html_pairs, html_table
from pomona.table.feature_table import FeatureTable

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["Features", "iter_features", "read_features"]

_SHOWN_LABELS = 10
_SHOWN_FAILURES = 5


@dataclass(frozen=True, slots=True)
class Features:
    """The rows of a feature table in memory: those with a vector, and those without.

    Attributes:
        name: the table's path, for messages.
        table: pyarrow Table with `path`, `label` and `features`, N rows. The vectors are a list of
            fixed size, and their memory is that of the matrix.
        vectors: (N, D) float32, C order.
        failed: pyarrow Table of the other rows, with `path`, `label`, `status` and `error`.
        provenance: of the vectors. One encoder made all of them.
    """

    name: str
    table: pa.Table
    vectors: NDArray[np.float32] = field(repr=False)
    failed: pa.Table
    provenance: dict[str, str]

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dimension(self) -> int:
        """Return the length D of a vector."""
        return int(self.vectors.shape[1])

    @property
    def labels(self) -> NDArray[np.object_]:
        """Return (N,) strings in the order of the matrix; None if a row has no label."""
        return self._column("label")

    @property
    def paths(self) -> NDArray[np.object_]:
        """Return (N,) strings in the order of the matrix."""
        return self._column("path")

    def to_pandas(self) -> pd.DataFrame:
        """Return a DataFrame of `path`, `label` and `features`. Each vector is a row of the matrix.

        Raises:
            ImportError: pandas is not installed.
        """
        frame: pd.DataFrame = self.table.select(["path", "label"]).to_pandas()
        frame["features"] = list(self.vectors)  # views: Arrow would copy
        return frame

    def _column(self, name: str) -> NDArray[np.object_]:
        values: NDArray[np.object_] = self.table[name].to_numpy(zero_copy_only=False)
        return values

    def __repr__(self) -> str:
        return (
            f"Features({self.name!r}: {len(self):,} x {self.dimension} float32, "
            f"{len(self.failed):,} failed, {self.provenance.get('model', '?')} "
            f"{self.provenance['fingerprint'][:12]})"
        )

    def _repr_html_(self) -> str:
        labels = Counter(self.table["label"].to_pylist())
        title = (
            f"{self.name}: {count_of(len(self), 'vector')} of "
            f"{count_of(self.dimension, 'number')}, {count_of(len(labels), 'label')}, "
            f"{count_of(len(self.failed), 'image')} without a vector"
        )
        counts = [
            ("(none)" if label is None else label, f"{count:,}")
            for label, count in sorted_labels(labels)
        ]
        if len(counts) > _SHOWN_LABELS:
            counts[_SHOWN_LABELS:] = [(f"... {len(counts) - _SHOWN_LABELS:,} more", "")]
        parts = [html_table(["label", "images"], counts)]
        if len(self.failed):
            rows = self.failed.slice(0, _SHOWN_FAILURES).to_pylist()
            shown = ([row["path"], row["status"], row["error"]] for row in rows)
            parts.append(html_table(["without a vector", "status", "error"], shown))
        return html_card(title, *parts, html_pairs("provenance", self.provenance))


def iter_features(
    table: FeatureTable | str | os.PathLike[str], batch_size: int = 4096
) -> Iterator[Block]:
    """Yield the rows of a feature table that have a vector, in batches.

        for batch in pomona.iter_features("features/"):
            batch.vectors  # (4096, D) float32; (N, D) in the last batch

    Args:
        table: a feature table, its path or URI.
        batch_size: rows of a batch; the last batch has fewer.

    Yields:
        `paths` and `labels`, pyarrow arrays of N strings, and `vectors`, (N, D) float32.

    Raises:
        TableError: it is not a feature table, mixes rows of two encoders, or has a damaged vector.
        RunError: a run changed it during the reading.
        UsageError: `batch_size` is below 1.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size is {batch_size}: give a number of rows, 1 or more")
    return open_vectors(FeatureTable.of(table)).blocks(batch_size)


def read_features(table: FeatureTable | str | os.PathLike[str]) -> Features:
    """Read a feature table into memory: 4 x N x D bytes, stored once.

    If that is too much, `iter_features` yields the same rows in batches.

    Args:
        table: a feature table, its path or URI.

    Raises:
        TableError: it is not a feature table, mixes rows of two encoders, or has a damaged vector.
        RunError: a run changed it during the reading.
    """
    name, source = str(table), FeatureTable.of(table)
    vectors = open_vectors(source)
    block = vectors.matrix()
    lists = pa.FixedSizeListArray.from_arrays(
        pa.array(block.vectors.reshape(-1)), vectors.dimension
    )
    rows = pa.table({"path": block.paths, "label": block.labels, "features": lists})
    return Features(name, rows, block.vectors, _failed(source), vectors.provenance)


def _failed(source: FeatureTable) -> pa.Table:
    columns = ["path", "label", "status", "error"]
    found: list[Any] = []
    for batch in source.batches(columns):
        bad = batch.filter(pc.not_equal(batch["status"], "ok"))
        if bad.num_rows:
            found.append(bad)
    return pa.Table.from_batches(found, pa.schema([(name, pa.string()) for name in columns]))
