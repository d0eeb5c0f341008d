"""`huggingface:FOLDER`: a dataset that `datasets.load_dataset(FOLDER)` reads, and its card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from string import Template

import pyarrow as pa
import pyarrow.parquet as pq

from pomona.errors import UsageError
from pomona.exports.files.whole import check_only, folder_to_write, written_folder
from pomona.exports.rows import VECTOR, Rows, row_schema
from pomona.exports.target import FileTarget
from pomona.messages import count_of
from pomona.schema import column_metadata, provenance_of_column

__all__ = ["HuggingFaceFolder"]

_CARD, _DATA = "README.md", "data"
_SHARD_BYTES = 500e6  # of vectors: the size that Hugging Face recommends
_NAME = "train-{at:05}-of-{of:05}.parquet"


class HuggingFaceFolder(FileTarget):
    """Parquet files in `data/`, with the vectors as lists of fixed size, and `README.md`.

    The provenance is metadata of the column `vector` in each file, and a table in the card.
    """

    has_float16 = True

    def __init__(self, place: str) -> None:
        self._folder = folder_to_write(place)
        check_only(self._folder, _CARD, _DATA)

    def __str__(self) -> str:
        return f"huggingface:{self._folder}"

    def about(self) -> dict[str, str] | None:
        """Return the provenance in the first file."""
        if not self._folder.exists() or not any(self._folder.iterdir()):
            return None
        found: dict[str, str] = {}
        with suppress(OSError, StopIteration, KeyError, ValueError, pa.ArrowException):
            file = next((self._folder / _DATA).glob("train-00000-of-*.parquet"))
            metadata = pq.read_schema(file).field(VECTOR).metadata or {}
            found = provenance_of_column({k.decode(): v.decode() for k, v in metadata.items()})
        if not found:
            raise UsageError(
                f"{self._folder} exists, and no export wrote it: give the name of a new folder"
            )
        return found

    def write(self, rows: Iterator[Rows], count: int, about: Mapping[str, str]) -> None:
        """Write the files and the card. A card that somebody has changed stays."""
        schema = row_schema(int(about["dimension"]), about["vector_type"])
        vector = schema.field(VECTOR).with_metadata(column_metadata(about))
        schema = schema.set(schema.get_field_index(VECTOR), vector)
        with written_folder(self._folder) as draft:
            (draft / _DATA).mkdir()
            _write_shards(rows, schema, draft / _DATA)
            (draft / _CARD).write_text(self._changed_card() or _card(count, about), "utf-8")

    def _changed_card(self) -> str | None:
        """Return the text of the card, if it is not the one that the last export wrote."""
        card = self._folder / _CARD
        if not card.is_file():
            return None
        shards = (self._folder / _DATA).glob("*.parquet")
        count = sum(pq.read_metadata(shard).num_rows for shard in shards)
        written = _card(count, self.about() or {})
        text = card.read_text("utf-8", "replace")
        return None if text == written else text


def _write_shards(rows: Iterator[Rows], schema: pa.Schema, folder: Path) -> None:
    """Write the rows into files of about the same size; without rows, into one."""
    shards = 0
    some = next(rows, None)
    while some is not None or shards == 0:
        with pq.ParquetWriter(folder / f"{shards}", schema, write_page_index=True) as file:
            written = 0
            while some is not None and written < _SHARD_BYTES:
                file.write_batch(pa.RecordBatch.from_arrays(some.to_arrow().columns, schema=schema))
                written += some.vectors.nbytes
                some = next(rows, None)
        shards += 1
    for at in range(shards):  # their number is part of their names
        (folder / f"{at}").rename(folder / _NAME.format(at=at, of=shards))


def _card(count: int, about: Mapping[str, str]) -> str:
    lines = [f"| `{key}` | {value.replace('|', '/')} |" for key, value in sorted(about.items())]
    page = Template(files("pomona.exports.files").joinpath("card.md").read_text("utf-8"))
    return page.substitute(count=count_of(count, "image"), provenance="\n".join(lines))
