"""`postgresql://...`: a table of PostgreSQL, with vectors of the extension pgvector."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pomona.exports.rows import COLUMNS, VECTOR, Rows
from pomona.exports.target import LISTED, Database, of_export
from pomona.extras import check_extra
from pomona.io.location import without_password
from pomona.schema import encoder_of_row, encoder_value

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

__all__ = ["PostgreSql"]

_TYPES = {
    "path": "text PRIMARY KEY",
    "label": "text",
    "width": "integer",
    "height": "integer",
    "format": "text",
    "content_sha256": "text",
}
_INTEGERS = {"width", "height"}
_LISTED_AT_ONCE = 10_000

# The format of `COPY ... (FORMAT BINARY)`: a signature and two empty fields; then for each row the
# number of its columns, and for each value its length and its bytes; then -1.
# https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.4
_HEAD = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TAIL = struct.pack(">h", -1)
_NULL = struct.pack(">i", -1)


class PostgreSql(Database):
    """A table of a PostgreSQL database. All changes of an export are one transaction.

    Vectors are of the type `vector(N)`, or `halfvec(N)` for float16.
    """

    has_float16 = True
    is_atomic = True

    def __init__(self, url: str, name: str) -> None:
        check_extra("postgresql", "postgresql:// needs psycopg", "psycopg")
        import psycopg

        self.errors = (psycopg.Error,)
        self._url = url
        self._name = name
        self._opened: psycopg.Connection[Any] | None = None

    def __str__(self) -> str:
        shown = re.sub(r"(?<=[?&]password=)[^&]*", "***", without_password(self._url))
        return re.sub(r"(?<=[?&]sslpassword=)[^&]*", "***", shown)

    @property
    def _database(self) -> psycopg.Connection[Any]:
        if self._opened is None:
            import psycopg

            self._opened = psycopg.connect(self._url)
        return self._opened

    def _query(self, text: str, **parts: sql.Composable) -> sql.Composed:
        from psycopg import sql

        return sql.SQL(text).format(table=sql.Identifier(self._name), **parts)

    def about(self) -> dict[str, str] | None:
        """Return the provenance in the table's comment."""
        found = self._database.execute(
            "SELECT obj_description(oid, 'pg_class') FROM pg_class "
            "WHERE oid = to_regclass(quote_ident(%s))",
            [self._name],
        ).fetchone()
        return of_export(encoder_of_row(found[0]), self, self._name) if found else None

    def create(self, about: Mapping[str, str]) -> None:
        """Create the table, with the provenance as its comment, and the extension if necessary."""
        from psycopg import sql

        kind = "halfvec" if about["vector_type"] == "float16" else "vector"
        columns = ", ".join(f"{name} {_TYPES[name]}" for name in COLUMNS)
        columns += f", {VECTOR} {kind}({int(about['dimension'])})"
        self._database.execute("CREATE EXTENSION IF NOT EXISTS vector")
        self._database.execute(self._query("DROP TABLE IF EXISTS {table}"))
        self._database.execute(
            self._query("CREATE TABLE {table} ({columns})", columns=sql.SQL(columns))
        )
        comment = sql.Literal(encoder_value(about))
        self._database.execute(self._query("COMMENT ON TABLE {table} IS {about}", about=comment))

    def listed(self) -> Iterator[pa.RecordBatch]:
        """Yield paths, labels and digests, with a cursor of the server."""
        with self._database.cursor("listed") as cursor:
            cursor.execute(self._query("SELECT path, label, content_sha256 FROM {table}"))
            while rows := cursor.fetchmany(_LISTED_AT_ONCE):
                columns = map(pa.array, zip(*rows, strict=True), [pa.string()] * len(LISTED))
                yield pa.RecordBatch.from_arrays([*columns], schema=LISTED)

    def insert(self, rows: Rows) -> None:
        """Copy the rows, in PostgreSQL's binary format."""
        command = self._query("COPY {table} FROM STDIN (FORMAT BINARY)")
        with self._database.cursor() as cursor, cursor.copy(command) as copy:
            copy.write(_HEAD)
            for row in _binary_rows(rows):
                copy.write(row)
            copy.write(_TAIL)

    def update(self, rows: Rows) -> None:
        """Delete the rows of these paths, and copy them."""
        self.delete(rows.paths)
        self.insert(rows)

    def delete(self, paths: Sequence[str]) -> None:
        """Delete the rows of these paths."""
        self._database.execute(self._query("DELETE FROM {table} WHERE path = ANY(%s)"), [[*paths]])

    def commit(self) -> None:
        """Commit the transaction."""
        self._database.commit()

    def close(self) -> None:
        """Close the connection; the server undoes what was not committed."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def _binary_rows(rows: Rows) -> Iterator[bytes]:
    """Yield the rows in the binary format of COPY.

    A vector of pgvector is its length and a zero, 16 bits each, and its numbers, all big-endian.
    """
    head = struct.pack(">h", len(COLUMNS) + 1)
    length = rows.vectors.shape[1]
    before = struct.pack(">iHH", 4 + length * rows.vectors.itemsize, length, 0)
    numbers = rows.vectors.astype(rows.vectors.dtype.newbyteorder(">"))  # (B, D)
    columns = []
    for name in COLUMNS:
        encode = _integer if name in _INTEGERS else _text
        values = rows.columns[name].to_pylist()
        columns.append([_NULL if value is None else encode(value) for value in values])
    for vector, *values in zip(numbers, *columns, strict=True):
        yield b"".join([head, *values, before, vector.tobytes()])


def _text(value: str) -> bytes:
    text = value.encode()
    return struct.pack(">i", len(text)) + text


def _integer(value: int) -> bytes:
    return struct.pack(">ii", 4, value)
