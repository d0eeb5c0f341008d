"""The vectors of a feature table, in blocks or all at once. Every analysis reads them here.

Only rows with the status `ok` have a vector. Other rows are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pomona.errors import RunError, TableError
from pomona.messages import count_of
from pomona.notebook import html_card, html_pairs
from pomona.schema import FEATURE_SCHEMA

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.table.feature_table import FeatureTable

__all__ = ["Block", "Vectors", "evenly_spread", "open_vectors", "unit", "vectors_of"]

_COLUMNS = ["path", "label", "features", "status"]


@dataclass(frozen=True, slots=True)
class Block:
    """Rows with a vector, in the order of the table.

    Attributes:
        paths: pyarrow array of B strings.
        labels: pyarrow array of B strings, null where there is no label.
        vectors: (B, D) float32, C order, perhaps a view of read-only memory.
    """

    paths: pa.Array
    labels: pa.Array
    vectors: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.vectors)

    def slice(self, start: int, stop: int) -> Block:
        """Return the rows from `start` to `stop`, without a copy."""
        length = stop - start
        return Block(
            self.paths.slice(start, length),
            self.labels.slice(start, length),
            self.vectors[start:stop],
        )


@dataclass(frozen=True, slots=True)
class Vectors:
    """The rows of a table that have a vector. They are read only when you ask for them.

    Attributes:
        table: the table.
        rows: number of rows with a vector.
        all_rows: number of all rows.
        provenance: of all rows: a table has one encoder.
    """

    table: FeatureTable
    rows: int
    all_rows: int
    provenance: dict[str, str]

    @property
    def dimension(self) -> int:
        """Return the length D of a vector."""
        return int(self.provenance["dimension"])

    def _repr_html_(self) -> str:
        title = f"{self.table}: {count_of(self.rows, 'vector')} of "
        title += count_of(self.dimension, "number")
        return html_card(title, html_pairs("provenance", self.provenance))

    def blocks(self, size: int = 8192) -> Iterator[Block]:
        """Stream all vectors in blocks of `size` rows; the last block may be shorter.

        A block within one batch of the file is a view of the batch. Other blocks are copies.

        Raises:
            TableError: a row that is `ok` has no vector, or one of another length or with a NaN.
            RunError: rows were added or removed since they were counted.
        """
        waiting: list[Block] = []
        count = 0
        for block in self._read():
            waiting.append(block)
            count += len(block)
            while count >= size:
                joined = _joined(waiting)
                yield joined.slice(0, size)
                count -= size
                waiting = [joined.slice(size, len(joined))] if count else []
        if waiting:
            yield _joined(waiting)

    def rows_at(self, numbers: NDArray[np.intp]) -> Iterator[Block]:
        """Stream rows by their numbers, which must be in ascending order; blocks may be empty.

        Raises:
            TableError: a row that is `ok` has no valid vector.
            RunError: rows were added or removed since they were counted.
        """
        start = 0
        for block in self.blocks():
            low, high = np.searchsorted(numbers, [start, start + len(block)])
            indices = numbers[low:high] - start
            yield Block(
                block.paths.take(indices), block.labels.take(indices), block.vectors[indices]
            )
            start += len(block)

    def matrix(self) -> Block:
        """Return all vectors as one block: (rows, D) float32, 4 x rows x D bytes, held once.

        Raises:
            TableError: a row that is `ok` has no valid vector.
            RunError: rows were added or removed since they were counted.
        """
        matrix = np.empty((self.rows, self.dimension), np.float32)
        paths, labels = [], []
        filled = 0
        for block in self._read():
            end = filled + len(block)
            matrix[filled:end] = block.vectors
            paths.append(block.paths)
            labels.append(block.labels)
            filled = end
        return Block(_concatenated(paths), _concatenated(labels), matrix)

    def words(self) -> Iterator[tuple[pa.Array, pa.Array]]:
        """Stream paths and labels of the same rows in the same order, without their vectors.

        Raises:
            RunError: rows were added or removed since they were counted.
        """
        for ok in self.records(["path", "label", "status"]):
            yield ok["path"], ok["label"]

    def columns_at(self, numbers: NDArray[np.intp], columns: list[str]) -> pa.Table:
        """Return columns of rows by their numbers, which must be in ascending order.

        Raises:
            RunError: rows were added or removed since they were counted.
        """
        found, start = [], 0
        for ok in self.records([*columns, "status"]):
            low, high = np.searchsorted(numbers, [start, start + ok.num_rows])
            found.append(ok.take(pa.array(numbers[low:high] - start)))
            start += ok.num_rows
        return pa.Table.from_batches(found).select(columns)

    def records(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Stream some columns, with `status`, of the rows that have a vector.

        Raises:
            RunError: rows were added or removed since they were counted.
        """
        rows = 0
        for batch in self.table.batches(columns):
            ok = batch.filter(pc.equal(batch["status"], "ok"))
            rows += ok.num_rows
            if rows > self.rows:
                raise self._changed()
            if ok.num_rows:
                yield ok
        if rows != self.rows:
            raise self._changed()

    def _read(self) -> Iterator[Block]:
        for ok in self.records(_COLUMNS):
            yield Block(ok["path"], ok["label"], vectors_of(ok, self.dimension, self.table))

    def _changed(self) -> RunError:
        return RunError(
            f"{self.table} changed while it was read: wait until the run that writes it has ended"
        )


def vectors_of(ok: pa.RecordBatch, dimension: int, table: FeatureTable) -> NDArray[np.float32]:
    """Return the column `features` of rows that are ok: (B, D) float32, a view of Arrow's memory.

    Args:
        ok: rows with `path` and `features`.
        dimension: D.
        table: the table of the rows, for the error.

    Raises:
        TableError: a row has no vector, or one of another length or with a NaN or infinity.
    """
    features = ok["features"]
    values = features.flatten()  # drops null vectors
    lengths = pc.fill_null(pc.list_value_length(features), 0).to_numpy(zero_copy_only=False)
    wrong = lengths != dimension
    if values.null_count:
        wrong |= [row is None or None in row for row in features.to_pylist()]
    if not wrong.any():
        vectors: NDArray[np.float32] = values.to_numpy().reshape(-1, dimension)
        # A NaN or an infinity in a vector shows in its sum.
        with np.errstate(all="ignore"):
            wrong = ~np.isfinite(vectors.sum(axis=1, dtype=np.float64))
        if not wrong.any():
            return vectors
    at = int(np.argmax(wrong))
    raise TableError(
        f"{table}: the row of {ok['path'][at].as_py()} is ok and has no vector of "
        f"{dimension} finite numbers; see 'pomona inspect', and extract the table again"
    )


def open_vectors(table: FeatureTable) -> Vectors:
    """Open the vectors of a table: count them, and check that they are of one encoder.

    Raises:
        TableError: it is not a feature table, or mixes rows of two encoders.
    """
    provenance = table.provenance()
    rows = all_rows = 0
    for batch in table.batches(["status"]):
        all_rows += batch.num_rows
        rows += pc.sum(pc.equal(batch["status"], "ok")).as_py() or 0
    return Vectors(table, rows, all_rows, provenance)


def evenly_spread(rows: int, most: int) -> NDArray[np.intp]:
    """Return the numbers of at most `most` rows, evenly spread: a table's order is arbitrary."""
    return np.unique(np.linspace(0, rows - 1, min(most, rows)).round().astype(np.intp))


def _joined(blocks: list[Block]) -> Block:
    if len(blocks) == 1:
        return blocks[0]
    return Block(
        _concatenated([block.paths for block in blocks]),
        _concatenated([block.labels for block in blocks]),
        np.concatenate([block.vectors for block in blocks]),
    )


def _concatenated(arrays: list[pa.Array]) -> pa.Array:
    if not arrays:
        return pa.array([], FEATURE_SCHEMA.field("path").type)
    return pa.concat_arrays(arrays)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide each vector by its length. A vector of zeros stays as it is: its cosines are 0.

    Args:
        vectors: (N, D) float32.

    Returns:
        (N, D) float32, a copy.
    """
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    scaled: NDArray[np.float32] = vectors * scale.astype(np.float32)[:, None]
    return scaled
