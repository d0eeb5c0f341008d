"""The answer to one question about a table: rows to look at, the clearest first."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.csv

from pomona.messages import count_of
from pomona.notebook import html_card, html_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CheckList"]

_SHOWN = 10  # in a notebook


@dataclass(frozen=True, slots=True)
class CheckList:
    """Rows to look at, the clearest first.

    Attributes:
        name: in one or two words, such as `mislabels`.
        question: what the list answers.
        rows: with the column `path`, except in lists of classes.
    """

    name: str
    question: str
    rows: pa.Table

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows as a DataFrame."""
        return self.rows.to_pandas()

    def to_json(self) -> list[dict[str, Any]]:
        """Return the rows as `pomona check --json` prints them."""
        rows: list[dict[str, Any]] = self.rows.to_pylist()
        return rows

    def write_csv(self, file: BinaryIO) -> None:
        """Write the rows as CSV with a header."""
        pyarrow.csv.write_csv(self.rows, file)

    def _repr_html_(self) -> str:
        first = self.rows.slice(0, _SHOWN)
        table = html_table(first.column_names, (row.values() for row in first.to_pylist()))
        return html_card(f"{self.question} {count_of(len(self), 'row')}", table, _pictures(first))


def _pictures(rows: pa.Table) -> str:
    """Return the images of some rows in HTML; images that no longer exist are left out."""
    from pomona.analysis.figures.thumbnails import as_webp, read_thumbnails

    paths = rows["path"].to_pylist() if "path" in rows.column_names else []
    found = []
    for path, image in zip(paths, read_thumbnails(paths, 96), strict=True):
        if image is not None:
            source = "data:image/webp;base64," + base64.b64encode(as_webp(image)).decode()
            found.append(f"<img src='{source}' title='{escape(path, quote=True)}' alt=''>")
    return "".join(found)
