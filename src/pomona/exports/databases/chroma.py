"""`chroma:FOLDER`: a collection of Chroma, in a folder or on a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pyarrow as pa

from pomona.exports.databases.server_or_folder import server_or_folder
from pomona.exports.rows import Rows
from pomona.exports.target import LISTED, Database, of_export
from pomona.extras import check_extra
from pomona.io.location import without_password

if TYPE_CHECKING:
    from chromadb import ClientAPI, Collection

__all__ = ["Chroma"]

_LISTED_AT_ONCE = 4096


class Chroma(Database):
    """A collection with the cosine as its metric. The id of a record is its path."""

    has_float16 = False
    is_atomic = False

    def __init__(self, place: str, name: str) -> None:
        check_extra("chroma", "chroma:FOLDER needs chromadb", "chromadb")
        from chromadb.errors import ChromaError

        # The client raises ValueError if a server does not answer.
        self.errors = (ChromaError, ValueError, OSError)
        self._place = server_or_folder("chroma", place)
        self._name = name
        self._opened: ClientAPI | None = None
        self._found: Collection | None = None

    def __str__(self) -> str:
        return f"chroma:{without_password(str(self._place))}"

    @property
    def _client(self) -> ClientAPI:
        if self._opened is None:
            import chromadb

            settings = chromadb.Settings(anonymized_telemetry=False)
            if isinstance(self._place, Path):
                self._opened = chromadb.PersistentClient(self._place, settings)
            else:
                url = urlsplit(self._place)
                is_secure = url.scheme == "https"
                port = url.port or (443 if is_secure else 8000)
                self._opened = chromadb.HttpClient(
                    url.hostname or "", port, ssl=is_secure, settings=settings
                )
        return self._opened

    @property
    def _collection(self) -> Collection:
        if self._found is None:
            self._found = self._client.get_collection(self._name, embedding_function=None)
        return self._found

    def about(self) -> dict[str, str] | None:
        """Return the provenance in the metadata of the collection."""
        if self._name not in {found.name for found in self._client.list_collections()}:
            return None
        return of_export(dict(self._collection.metadata or {}), self, self._name)

    def create(self, about: Mapping[str, str]) -> None:
        """Create the collection, with the provenance as its metadata."""
        if self._found is not None:
            self._client.delete_collection(self._name)
        self._found = self._client.create_collection(
            self._name,
            configuration={"hnsw": {"space": "cosine"}},
            metadata=dict(about),
            embedding_function=None,  # the default one downloads a network
        )

    def listed(self) -> Iterator[pa.RecordBatch]:
        """Yield paths, labels and digests."""
        start = 0
        while True:
            found = self._collection.get(limit=_LISTED_AT_ONCE, offset=start, include=["metadatas"])
            yield pa.RecordBatch.from_pylist([*map(dict, found["metadatas"] or [])], LISTED)
            start += _LISTED_AT_ONCE
            if len(found["ids"]) < _LISTED_AT_ONCE:
                return

    def insert(self, rows: Rows) -> None:
        """Send the rows, as many at a time as Chroma takes."""
        at_once = self._client.get_max_batch_size()
        metadata: list[Any] = [
            {name: value for name, value in row.items() if value is not None}
            for row in rows.columns.to_pylist()
        ]
        for start in range(0, len(rows), at_once):
            some = slice(start, start + at_once)
            self._collection.upsert(
                ids=[row["path"] for row in metadata[some]],
                embeddings=rows.vectors[some],
                metadatas=metadata[some],
            )

    def update(self, rows: Rows) -> None:
        """Replace the records: Chroma merges the metadata of an id that it has."""
        self.delete(rows.paths)
        self.insert(rows)

    def delete(self, paths: Sequence[str]) -> None:
        """Delete the records of these paths."""
        self._collection.delete(ids=[*paths])

    def commit(self) -> None:
        """Do nothing: each call is complete."""

    def close(self) -> None:
        """Close the client: Chroma refuses a second one of other settings in the same process."""
        if self._opened is not None:
            self._opened.close()
            self._opened = self._found = None
