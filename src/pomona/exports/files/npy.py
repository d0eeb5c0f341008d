"""`npy:FOLDER`: the vectors as one NumPy file, and a CSV file that says whose they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
from pyarrow.csv import CSVWriter

from pomona.errors import UsageError
from pomona.exports.files.whole import check_only, folder_to_write, written_folder
from pomona.exports.rows import COLUMNS, Rows
from pomona.exports.target import FileTarget
from pomona.schema import FEATURE_SCHEMA, encoder_of_row, encoder_value

__all__ = ["NpyFolder"]

_VECTORS, _ROWS, _ABOUT = "features.npy", "rows.csv", "provenance.json"


class NpyFolder(FileTarget):
    """`features.npy`, (N, D), that `numpy.load(..., mmap_mode="r")` maps; N lines in `rows.csv`."""

    has_float16 = True

    def __init__(self, place: str) -> None:
        self._folder = folder_to_write(place)
        check_only(self._folder, _VECTORS, _ROWS, _ABOUT)

    def __str__(self) -> str:
        return f"npy:{self._folder}"

    def about(self) -> dict[str, str] | None:
        """Return the provenance in `provenance.json`."""
        if not self._folder.exists() or not any(self._folder.iterdir()):
            return None
        about = self._folder / _ABOUT
        found = encoder_of_row(about.read_text("utf-8", "replace") if about.is_file() else None)
        if not found:
            raise UsageError(
                f"{self._folder} exists, and no export wrote it: give the name of a new folder"
            )
        return found

    def write(self, rows: Iterator[Rows], count: int, about: Mapping[str, str]) -> None:
        """Write the three files in a new folder."""
        shape = (count, int(about["dimension"]))
        kind = np.dtype(about["vector_type"])
        columns = pa.schema(map(FEATURE_SCHEMA.field, COLUMNS))
        with written_folder(self._folder) as draft:
            with (draft / _VECTORS).open("wb") as file, CSVWriter(draft / _ROWS, columns) as table:
                header = {"descr": kind.newbyteorder("<").str, "fortran_order": False}
                np.lib.format.write_array_header_1_0(file, header | {"shape": shape})
                for some in rows:
                    file.write(some.vectors.astype(kind.newbyteorder("<"), "C", copy=False).data)
                    table.write_batch(some.columns)
            (draft / _ABOUT).write_text(encoder_value(about), "utf-8")
