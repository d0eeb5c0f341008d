"""One Parquet file that contains images: its rows and columns as its table has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from pomona.errors import SourceError
from pomona.io.remote import RemotePlace
from pomona.messages import one_line
from pomona.source.object_file import ObjectFile

__all__ = ["OpenTableFile", "TableFile", "open_parquet"]

_BUFFER_BYTES = 2**20  # so that Arrow reads a column page by page, not a whole row group
_FAR_BUFFER_BYTES = 4 * 2**20  # an answer takes 25 ms, in which 2 MiB arrive
_ROWS_AT_ONCE = 4096

Rows = tuple[int, Sequence[int], pa.RecordBatch]
"""A row group, the numbers of some of its rows, and these rows."""


@dataclass(frozen=True, slots=True)
class TableFile:
    """A Parquet file, and what the log of its table says about it.

    Attributes:
        path: absolute path on this machine, or URI.
        values: the columns that the file may lack, with the one value that its rows have there.
        is_there: for each row, whether it counts; rows beyond the end do. None if all do.
        store: the bucket of the file; None on this machine.
    """

    path: str
    values: Mapping[str, pa.Scalar] = field(default_factory=dict)
    is_there: pa.BooleanArray | None = None
    store: RemotePlace | None = None

    @contextmanager
    def opened(self) -> Iterator[OpenTableFile]:
        """Open the file.

        Raises:
            SourceError: it is missing, or not a Parquet file.
        """
        try:
            file = open_parquet(self.path, self.store)
        except (OSError, pa.ArrowException) as error:
            raise SourceError(f"cannot read {self.path} as Parquet: {one_line(error)}") from error
        with file:
            yield OpenTableFile(self, file)


class OpenTableFile:
    """An open Parquet file.

    Attributes:
        path: its path.
        own_schema: the columns in the file.
        schema: also the columns that it lacks.
    """

    def __init__(self, about: TableFile, file: pq.ParquetFile) -> None:
        self.path = about.path
        self.own_schema: pa.Schema = file.schema_arrow
        self._file, self._is_there = file, about.is_there
        own = set(self.own_schema.names)
        self._values = {name: v for name, v in about.values.items() if name not in own}
        lacking = [pa.field(name, value.type) for name, value in self._values.items()]
        self.schema = pa.schema([*self.own_schema, *lacking], self.own_schema.metadata)

    def rows(self, columns: Sequence[str]) -> Iterator[Rows]:
        """Yield the rows that count, some thousand at a time.

        Args:
            columns: each once; `image.path` for a field of a struct.
        """
        lacking = {name: self._values[name] for name in columns if name in self._values}
        read = [name for name in columns if name not in lacking]
        first = 0
        for group in range(self._file.num_row_groups):
            row = 0
            for batch in self._file.iter_batches(_ROWS_AT_ONCE, [group], read):
                count = batch.num_rows
                for name, value in lacking.items():
                    batch = batch.append_column(name, pa.repeat(value, count))  # noqa: PLW2901
                numbers: Sequence[int] = range(row, row + count)
                if self._is_there is not None:
                    numbers, batch = self._remaining(first, numbers, batch)  # noqa: PLW2901
                yield group, numbers, batch
                row += count
                first += count

    def _remaining(
        self, first: int, numbers: Sequence[int], batch: pa.RecordBatch
    ) -> tuple[Sequence[int], pa.RecordBatch]:
        """Return the rows of a batch that count; `first` is the number of its first in the file."""
        assert self._is_there is not None  # noqa: S101 - for mypy
        some = self._is_there.slice(first, len(numbers)).to_pylist()
        some += [True] * (len(numbers) - len(some))
        left = [number for number, stays in zip(numbers, some, strict=True) if stays]
        return left, batch.filter(pa.array(some))


def open_parquet(path: str, store: RemotePlace | None = None) -> pq.ParquetFile:
    """Open a Parquet file to read it page by page.

    Raises:
        OSError, pa.ArrowException: it cannot be opened, or is not a Parquet file.
    """
    file = ObjectFile(store, path) if store else path
    buffer = _FAR_BUFFER_BYTES if store else _BUFFER_BYTES
    return pq.ParquetFile(file, buffer_size=buffer, pre_buffer=False)
