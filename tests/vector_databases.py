"""Databases in tests: what their own libraries find in the table that an export made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

NAME = "features"
Found = dict[str, tuple[str | None, NDArray[Any]]]


class Reader(ABC):
    """A database as its users read it.

    Attributes:
        to: the target.
        keeps_lengths: whether the vectors stay as they were sent.
        float16: whether it has 16-bit floats.
    """

    module: str
    keeps_lengths = True
    float16 = True

    def __init__(self, folder: Path) -> None:
        pytest.importorskip(self.module, reason="'make test-exports' installs it")
        self.folder = folder

    @property
    @abstractmethod
    def to(self) -> str: ...

    @abstractmethod
    def rows(self) -> Found:
        """Label and vector of each path."""

    @abstractmethod
    def nearest(self, query: NDArray[Any], k: int) -> list[str]:
        """The paths of the nearest rows by cosine, nearest first."""

    @abstractmethod
    def provenance(self) -> dict[str, str]: ...

    @abstractmethod
    def make_foreign(self) -> None:
        """Create a table of the same name, without an export."""


class DuckDb(Reader):
    module = "duckdb"
    float16 = False

    @property
    def to(self) -> str:
        return f"duckdb:{self.folder / 'photos.duckdb'}"

    def query(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        import duckdb

        with duckdb.connect(self.folder / "photos.duckdb") as database:
            return database.execute(query, [*values]).fetchall()

    def rows(self) -> Found:
        found = self.query(f"SELECT path, label, vector FROM {NAME}")  # noqa: S608 - a constant
        return {path: (label, np.array(vector, np.float32)) for path, label, vector in found}

    def nearest(self, query: NDArray[Any], k: int) -> list[str]:
        by = f"array_cosine_distance(vector, ?::FLOAT[{len(query)}])"
        nearest = f"SELECT path FROM {NAME} ORDER BY {by} LIMIT {k}"  # noqa: S608 - constants
        found = self.query(nearest, query.tolist())
        return [path for (path,) in found]

    def provenance(self) -> dict[str, str]:
        import json

        ((comment,),) = self.query("SELECT comment FROM duckdb_tables()")
        found: dict[str, str] = json.loads(comment)
        return found

    def make_foreign(self) -> None:
        self.query(f"CREATE TABLE {NAME} (path VARCHAR)")


class Lance(Reader):
    module = "lancedb"

    @property
    def to(self) -> str:
        return f"lance:{self.folder / 'photos'}"

    @property
    def table(self) -> Any:
        import lancedb

        return lancedb.connect(self.folder / "photos").open_table(NAME)

    def rows(self) -> Found:
        found = self.table.to_arrow()
        vectors = found["vector"].combine_chunks()
        matrix = vectors.flatten().to_numpy().reshape(len(found), -1)
        labels = zip(found["label"].to_pylist(), matrix, strict=True)
        return dict(zip(found["path"].to_pylist(), labels, strict=True))

    def nearest(self, query: NDArray[Any], k: int) -> list[str]:
        found = self.table.search(query).distance_type("cosine").limit(k).to_list()
        return [row["path"] for row in found]

    def provenance(self) -> dict[str, str]:
        metadata = self.table.schema.metadata
        return {key.decode().removeprefix("pomona."): v.decode() for key, v in metadata.items()}

    def make_foreign(self) -> None:
        import lancedb

        lancedb.connect(self.folder / "photos").create_table(NAME, [{"path": "a"}])


READERS = [DuckDb, Lance]
