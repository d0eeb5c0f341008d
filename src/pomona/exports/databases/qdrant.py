"""`qdrant:URL`: a collection of Qdrant, on a server or in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import NAMESPACE_URL, uuid5

import pyarrow as pa

from pomona.exports.databases.server_or_folder import server_or_folder
from pomona.exports.rows import Rows
from pomona.exports.target import LISTED, Database, of_export
from pomona.extras import check_extra
from pomona.io.location import without_password

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

__all__ = ["Qdrant"]

_KEY = "QDRANT_API_KEY"
_SENT_AT_ONCE = 256  # a request of 1280 numbers each is 7 MB of JSON; the server takes 32 MB
_LISTED_AT_ONCE = 4096
_TIMEOUT_S = 60


class Qdrant(Database):
    """A collection. The id of a point is the UUID of its path: `uuid5(NAMESPACE_URL, path)`.

    The metric is the cosine, for which Qdrant stores vectors of length 1.
    """

    has_float16 = True
    is_atomic = False

    def __init__(self, place: str, name: str) -> None:
        check_extra("qdrant", "qdrant:URL needs qdrant-client", "qdrant_client")
        from qdrant_client.http.exceptions import ApiException

        # In a folder, the client raises these.
        self.errors = (ApiException, RuntimeError, ValueError, OSError)
        self._place = server_or_folder("qdrant", place)
        self._name = name
        self._opened: QdrantClient | None = None

    def __str__(self) -> str:
        return f"qdrant:{without_password(str(self._place))}"

    @property
    def _client(self) -> QdrantClient:
        if self._opened is None:
            from qdrant_client import QdrantClient

            if isinstance(self._place, Path):
                self._opened = QdrantClient(path=str(self._place))
            else:
                key = os.environ.get(_KEY)
                # The check only warns, and the first request of an export fails anyway.
                self._opened = QdrantClient(
                    self._place, api_key=key, timeout=_TIMEOUT_S, check_compatibility=False
                )
        return self._opened

    def about(self) -> dict[str, str] | None:
        """Return the provenance in the metadata of the collection."""
        if not self._client.collection_exists(self._name):
            return None
        metadata = self._client.get_collection(self._name).config.metadata or {}
        return of_export(metadata, self, self._name)

    def create(self, about: Mapping[str, str]) -> None:
        """Create the collection, with the provenance as its metadata."""
        from qdrant_client import models

        kind = models.VectorParams(
            size=int(about["dimension"]),
            distance=models.Distance.COSINE,
            datatype=models.Datatype(about["vector_type"]),
        )
        if self._client.collection_exists(self._name):
            self._client.delete_collection(self._name)
        self._client.create_collection(self._name, vectors_config=kind, metadata=dict(about))

    def listed(self) -> Iterator[pa.RecordBatch]:
        """Yield paths, labels and digests."""
        start = None
        while True:
            points, start = self._client.scroll(
                self._name, limit=_LISTED_AT_ONCE, offset=start, with_payload=LISTED.names
            )
            yield pa.RecordBatch.from_pylist([point.payload or {} for point in points], LISTED)
            if start is None:
                return

    def insert(self, rows: Rows) -> None:
        """Send the rows, some hundred at a time."""
        from qdrant_client import models

        payloads = rows.columns.to_pylist()
        for start in range(0, len(rows), _SENT_AT_ONCE):
            some = slice(start, start + _SENT_AT_ONCE)
            points = models.Batch(
                ids=[_point(row["path"]) for row in payloads[some]],
                vectors=rows.vectors[some].tolist(),
                payloads=payloads[some],
            )
            self._client.upsert(self._name, points)

    def update(self, rows: Rows) -> None:
        """Send the rows: points of the same id are replaced."""
        self.insert(rows)

    def delete(self, paths: Sequence[str]) -> None:
        """Delete the points of these paths."""
        self._client.delete(self._name, [_point(path) for path in paths])

    def commit(self) -> None:
        """Do nothing: each request is complete."""

    def close(self) -> None:
        """Close the client."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def _point(path: str) -> str:
    return str(uuid5(NAMESPACE_URL, path))
