"""Reading images inside Parquet files, in a worker process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pomona.io.remote import RemotePlace
from pomona.messages import one_line
from pomona.source.image_file import BATCH_BYTES, Content, ImageFile, Place, read_content
from pomona.source.table_file import open_parquet

__all__ = ["BYTES", "PATH", "TableReader", "has_field"]

BYTES, PATH = "bytes", "path"
"""The fields of a column of images as `datasets` of Hugging Face writes them."""

_MOST_ROWS = 256


@dataclass(slots=True)
class TableReader:
    """Reads images in the order of their rows; a row that comes earlier starts again.

    Attributes:
        column: the column of images.
        store: the bucket of the files; None on this machine.
        images_at_once: number of images that a worker gets together.
    """

    column: str
    store: RemotePlace | None = None
    images_at_once: int = field(default=64, init=False)
    _path: str = field(default="", init=False)
    _group: int = field(default=-1, init=False)
    _row: int = field(default=0, init=False)
    _values: Iterator[Content] = field(default=iter(()), init=False)

    def read(self, files: Sequence[ImageFile]) -> Iterator[Content]:
        """Yield the content of each image."""
        for file in files:
            if not isinstance(file.place, Place):  # the image that tests a process
                yield read_content(file)
                continue
            try:
                yield self._value(file.place)
            except (OSError, StopIteration, pa.ArrowException) as error:
                self._path = ""
                reason = one_line(error) or "it has fewer rows than before"
                yield None, f"cannot be read from {file.place.path}: {reason}"

    def _value(self, place: Place) -> Content:
        at = (place.path, place.group)
        if at != (self._path, self._group) or place.row < self._row:
            self._path, self._group = at
            opened = open_parquet(place.path, self.store)
            self._row, self._values = 0, _values(opened, place.group, self.column)
        while self._row < place.row:
            next(self._values)
            self._row += 1
        self._row += 1
        return next(self._values)

    def __reduce__(self) -> tuple[type[TableReader], tuple[str, RemotePlace | None]]:
        """Pickle the settings, not the open file."""
        return type(self), (self.column, self.store)


def _values(opened: pq.ParquetFile, group: int, column: str) -> Iterator[Content]:
    with opened as file:
        about = file.metadata.row_group(group)
        average = max(1, about.total_byte_size // max(1, about.num_rows))
        rows = max(1, min(_MOST_ROWS, BATCH_BYTES // average))
        for batch in file.iter_batches(rows, [group], [column], use_threads=False):
            values, paths = batch.column(0), None
            if pa.types.is_struct(values.type):
                paths = values.field(PATH) if has_field(values.type, PATH) else None
                values = pc.struct_field(values, BYTES)
            for row, value in enumerate(values):
                if value.is_valid:
                    yield value.as_buffer().to_pybytes(), None
                else:
                    name = None if paths is None else paths[row].as_py()
                    yield (
                        None,
                        f"has no bytes in the table, only the path {name}"
                        if name
                        else ("has no bytes in the table"),
                    )


def has_field(kind: Any, name: str) -> bool:
    """Return whether a struct has a field."""
    return bool(kind.get_field_index(name) >= 0)
