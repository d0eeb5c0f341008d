"""`milvus:URL`: a collection of Milvus, on a server or in a folder of Milvus Lite."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from pomona.exports.databases.server_or_folder import server_or_folder
from pomona.exports.rows import VECTOR, Rows
from pomona.exports.target import LISTED, Database, of_export
from pomona.extras import check_extra
from pomona.io.location import without_password
from pomona.schema import encoder_of_row, encoder_value

if TYPE_CHECKING:
    from pymilvus import CollectionSchema, MilvusClient

__all__ = ["Milvus"]

_TOKEN = "MILVUS_TOKEN"  # noqa: S105 - the name of a variable
_ABOUT = "pomona.provenance"
_LONGEST = 65_535  # bytes of a string, which is Milvus' limit
_SENT_AT_ONCE = 1024  # 5 MB of 1280 numbers each; a server takes 64 MB in a message
_LISTED_AT_ONCE = 4096


class Milvus(Database):
    """A collection with the cosine as its metric. Its key `id` is the SHA-256 of the path, in hex.

    Paths cannot be keys: the iterator of Milvus does not escape quotes in them.
    """

    is_atomic = False

    def __init__(self, place: str, name: str) -> None:
        check_extra("milvus", "milvus:URL needs pymilvus", "pymilvus", "milvus_lite")
        from pymilvus import MilvusException

        self.errors = (MilvusException, OSError)
        self._place = server_or_folder("milvus", place)
        self.has_float16 = not isinstance(self._place, Path)  # Milvus Lite has none
        self._name = name
        self._opened: MilvusClient | None = None

    def __str__(self) -> str:
        return f"milvus:{without_password(str(self._place))}"

    @property
    def _client(self) -> MilvusClient:
        if self._opened is None:
            from pymilvus import MilvusClient

            token = os.environ.get(_TOKEN, "")
            self._opened = MilvusClient(str(self._place), token=token)
        return self._opened

    def about(self) -> dict[str, str] | None:
        """Return the provenance in the properties of the collection."""
        if not self._client.has_collection(self._name):
            return None
        found = self._client.describe_collection(self._name)["properties"].get(_ABOUT)
        about = of_export(encoder_of_row(found), self, self._name)
        self._client.load_collection(self._name)
        return about

    def create(self, about: Mapping[str, str]) -> None:
        """Create the collection, with the provenance as one of its properties."""
        if self._client.has_collection(self._name):
            self._client.drop_collection(self._name)
        index = self._client.prepare_index_params()
        index.add_index(VECTOR, index_type="AUTOINDEX", metric_type="COSINE")
        self._client.create_collection(
            self._name,
            schema=self._schema(about),
            index_params=index,
            properties={_ABOUT: encoder_value(about)},
        )

    def _schema(self, about: Mapping[str, str]) -> CollectionSchema:
        from pymilvus import DataType

        is_half = about["vector_type"] == "float16"
        kind = DataType.FLOAT16_VECTOR if is_half else DataType.FLOAT_VECTOR
        schema = self._client.create_schema(auto_id=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
        for name in ("path", "label", "format", "content_sha256"):
            schema.add_field(name, DataType.VARCHAR, max_length=_LONGEST, nullable=name != "path")
        for name in ("width", "height"):
            schema.add_field(name, DataType.INT32, nullable=True)
        schema.add_field(VECTOR, kind, dim=int(about["dimension"]))
        return schema

    def listed(self) -> Iterator[pa.RecordBatch]:
        """Yield paths, labels and digests."""
        rows = self._client.query_iterator(
            self._name, batch_size=_LISTED_AT_ONCE, output_fields=LISTED.names
        )
        while some := rows.next():
            yield pa.RecordBatch.from_pylist([*some], LISTED)
        rows.close()

    def insert(self, rows: Rows) -> None:
        """Send the rows, about a thousand at a time."""
        sent = [
            {"id": _key(row["path"]), VECTOR: vector, **row}
            for row, vector in zip(rows.columns.to_pylist(), rows.vectors, strict=True)
        ]
        for start in range(0, len(sent), _SENT_AT_ONCE):
            self._client.upsert(self._name, sent[start : start + _SENT_AT_ONCE])

    def update(self, rows: Rows) -> None:
        """Send the rows: those of the same key are replaced."""
        self.insert(rows)

    def delete(self, paths: Sequence[str]) -> None:
        """Delete the rows of these paths."""
        self._client.delete(self._name, ids=[_key(path) for path in paths])

    def commit(self) -> None:
        """Make the rows durable."""
        self._client.flush(self._name)

    def close(self) -> None:
        """Close the client."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def _key(path: str) -> str:
    return sha256(path.encode()).hexdigest()
