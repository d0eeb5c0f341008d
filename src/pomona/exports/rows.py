"""The rows that an export sends: those of a table that have a vector, in the requested form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pomona.analysis.vectors import Vectors, unit, vectors_of
from pomona.errors import UsageError
from pomona.progress import Progress, Snapshot, no_progress
from pomona.schema import FEATURE_SCHEMA

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["COLUMNS", "ROWS_DIGEST", "VECTOR", "Outgoing", "Rows", "row_schema"]

COLUMNS = ("path", "label", "width", "height", "format", "content_sha256")
"""The columns that a target gets, with the names and types of the feature table."""

VECTOR = "vector"
"""The name of the column of vectors in a target."""

ROWS_DIGEST = "rows_sha256"
"""Provenance of files: a digest of the rows in them."""


def row_schema(dimension: int, vector_type: str) -> pa.Schema:
    """Return the Arrow schema of rows; a vector is a list of fixed size."""
    vector = pa.list_(pa.type_for_alias(vector_type.replace("float16", "halffloat")), dimension)
    return pa.schema([*map(FEATURE_SCHEMA.field, COLUMNS), pa.field(VECTOR, vector)])


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows to send.

    Attributes:
        columns: B rows of `COLUMNS`.
        vectors: (B, D) float32 or float16, C order.
    """

    columns: pa.RecordBatch
    vectors: NDArray[Any]

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def paths(self) -> list[str]:
        """The paths of the rows."""
        paths: list[str] = self.columns["path"].to_pylist()
        return paths

    def where(self, mask: NDArray[np.bool_]) -> Rows:
        """Return the rows for which the mask (B,) is true."""
        return self if mask.all() else Rows(self.columns.filter(pa.array(mask)), self.vectors[mask])

    def to_arrow(self) -> pa.RecordBatch:
        """Return the rows with the column `vector`, in the schema `row_schema`."""
        flat = pa.array(np.ascontiguousarray(self.vectors).reshape(-1))
        lists = pa.FixedSizeListArray.from_arrays(flat, self.vectors.shape[1])
        schema = row_schema(self.vectors.shape[1], self.vectors.dtype.name)
        return pa.RecordBatch.from_arrays([*self.columns.columns, lists], schema=schema)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The rows of a table that have a vector, and the form of the vectors in the target.

    Attributes:
        vectors: those of the table.
        float16: whether the target gets 16-bit floats.
        normalize: whether each vector is divided by its length.
    """

    vectors: Vectors
    float16: bool = False
    normalize: bool = False

    @property
    def provenance(self) -> dict[str, str]:
        """That of the table, with the form of the vectors in the target."""
        form = {"vector_type": "float16" if self.float16 else "float32"}
        if self.normalize:
            form["normalized"] = "L2"
        return self.vectors.provenance | form

    def batches(self, progress: Progress = no_progress) -> Iterator[Rows]:
        """Stream the rows in the order of the table, at most some thousand at a time.

        Args:
            progress: called with the number of rows that were taken.

        Raises:
            TableError: a row that is `ok` has no valid vector.
            UsageError: a number is too large for float16.
            RunError: the table changed during the reading.
        """
        table, dimension = self.vectors.table, self.vectors.dimension
        done = 0
        for ok in self.vectors.records([*COLUMNS, "features", "status"]):
            vectors: NDArray[Any] = vectors_of(ok, dimension, table)
            if self.normalize:
                vectors = unit(vectors)
            if self.float16:
                vectors = _halved(vectors, ok["path"])
            yield Rows(ok.select(COLUMNS), vectors)
            done += len(vectors)
            progress(Snapshot("exporting", done, self.vectors.rows))

    def digest(self) -> str | None:
        """Return a SHA-256 over paths, labels and contents; None if a row has no content digest."""
        found = hashlib.sha256()
        columns = ["path", "label", "content_sha256"]
        for ok in self.vectors.records([*columns, "status"]):
            if ok["content_sha256"].null_count:
                return None
            for row in zip(*(ok[name].to_pylist() for name in columns), strict=True):
                found.update(json.dumps(row).encode())
        return found.hexdigest()


def _halved(vectors: NDArray[np.float32], paths: pa.Array) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        halved = vectors.astype(np.float16)
    if not (fits := np.isfinite(halved).all(axis=1)).all():
        at = int(np.argmin(fits))
        raise UsageError(
            f"the vector of {paths[at].as_py()} has the number {np.abs(vectors[at]).max():.4g}, "
            "and float16 ends at 65504: leave `float16` out, or add `normalize`"
        )
    return halved
