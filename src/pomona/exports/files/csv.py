"""`csv:FILE`: one line for each row, with a column for each number of its vector."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow.csv import CSVWriter

from pomona.errors import UsageError
from pomona.exports.rows import COLUMNS, Rows
from pomona.exports.target import FileTarget
from pomona.io.location import check_output_here, written_whole
from pomona.schema import FEATURE_SCHEMA, encoder_of_row
from pomona.table.feature_table import check_output

__all__ = ["CsvFile"]


class CsvFile(FileTarget):
    """`path`, `label`, ... and `vector_0` to `vector_{D-1}`, with a header.

    CSV has no place for provenance. It is in `FILE-metadata.json`, where "CSV on the Web" expects
    metadata (https://www.w3.org/TR/tabular-data-model/#standard-file-metadata), as a note.
    """

    has_float16 = False

    def __init__(self, place: str) -> None:
        self._file = check_output_here(Path(place), UsageError)
        check_output(self._file)
        self._about = self._file.with_name(f"{self._file.name}-metadata.json")

    def __str__(self) -> str:
        return f"csv:{self._file}"

    def about(self) -> dict[str, str] | None:
        """Return the provenance in the file beside it."""
        if not self._file.exists():
            return None
        try:
            metadata = json.loads(self._about.read_bytes())
            found = encoder_of_row(json.dumps(metadata["notes"][0]))
        except (OSError, ValueError, LookupError, TypeError):
            found = {}
        if not found:
            raise UsageError(
                f"{self._file} exists, and no export wrote it: give the name of a new file"
            )
        return found

    def write(self, rows: Iterator[Rows], count: int, about: Mapping[str, str]) -> None:  # noqa: ARG002
        """Write the file, then the one beside it."""
        names = [f"vector_{at}" for at in range(int(about["dimension"]))]
        columns = [*map(FEATURE_SCHEMA.field, COLUMNS), *((name, pa.float32()) for name in names)]
        schema = pa.schema(columns)
        with (
            written_whole(self._about, UsageError) as note,
            written_whole(self._file, UsageError) as draft,
        ):
            with CSVWriter(draft, schema) as file:
                for some in rows:
                    numbers = np.ascontiguousarray(some.vectors.T)  # (D, B)
                    arrays = [*some.columns.columns, *map(pa.array, numbers)]
                    file.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
            metadata = {
                "@context": "http://www.w3.org/ns/csvw",
                "url": self._file.name,
                "notes": [dict(about)],
            }
            note.write_text(json.dumps(metadata, indent=1, ensure_ascii=False), "utf-8")
            with suppress(FileNotFoundError):  # so that it never describes other rows
                self._about.unlink()
