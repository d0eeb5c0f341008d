"""The target that a user means: `kind:place`, or the URL of a database."""

from __future__ import annotations

import os
import re

from pomona.errors import UsageError
from pomona.exports.target import Database, FileTarget
from pomona.io.location import without_password

__all__ = ["table_name", "target_of"]

_KINDS = (
    "npy:FOLDER, csv:FILE, huggingface:FOLDER, duckdb:FILE, lance:FOLDER, postgresql://..., "
    "qdrant:URL, chroma:FOLDER or milvus:URL"
)


def target_of(to: str, name: str) -> FileTarget | Database:
    """Return the target at `kind:place`. Nothing is opened yet.

    Args:
        to: kind and place.
        name: of the table in a database.

    Raises:
        UsageError: the kind is unknown, its library is not installed, or nothing can be written at
            the place.
    """
    kind, _, place = to.partition(":")
    if kind in {"postgresql", "postgres"} and place.startswith("//"):
        from pomona.exports.databases.postgresql import PostgreSql

        return PostgreSql(to, name)
    place = os.path.expanduser(place)  # noqa: PTH111 - it may be a URL
    target = (_files(kind, place) or _database(kind, place, name)) if place else None
    if target is None:
        raise UsageError(f"`to` is {without_password(to)!r}: expected {_KINDS}")
    return target


def _files(kind: str, place: str) -> FileTarget | None:
    if kind == "npy":
        from pomona.exports.files.npy import NpyFolder

        return NpyFolder(place)
    if kind == "csv":
        from pomona.exports.files.csv import CsvFile

        return CsvFile(place)
    if kind == "huggingface":
        from pomona.exports.files.huggingface import HuggingFaceFolder

        return HuggingFaceFolder(place)
    return None


def _database(kind: str, place: str, name: str) -> Database | None:
    if kind == "duckdb":
        from pomona.exports.databases.duckdb import DuckDb

        return DuckDb(place, name)
    if kind == "lance":
        from pomona.exports.databases.lance import Lance

        return Lance(place, name)
    if kind == "qdrant":
        from pomona.exports.databases.qdrant import Qdrant

        return Qdrant(place, name)
    if kind == "chroma":
        from pomona.exports.databases.chroma import Chroma

        return Chroma(place, name)
    if kind == "milvus":
        from pomona.exports.databases.milvus import Milvus

        return Milvus(place, name)
    return None


def table_name(name: str | None, table: object) -> str:
    """Return the name of the table in a database; by default that of the feature table's folder.

    Raises:
        UsageError: a database does not allow the name.
    """
    if name is None:
        plain = re.sub(r"\W", "_", str(table).rstrip("/").rpartition("/")[2], flags=re.ASCII)
        return f"_{plain}"[:63] if not plain or plain[0].isdecimal() else plain[:63]
    if not re.fullmatch(r"[A-Za-z_]\w{0,62}", name, re.ASCII):
        raise UsageError(
            f"`name` is {name!r}: expected a letter, then up to 62 letters, digits and '_'"
        )
    return name
