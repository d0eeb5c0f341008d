"""`duckdb:FILE`: a table with the vectors as arrays of fixed length, `FLOAT[N]`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from pomona.errors import UsageError
from pomona.exports.rows import VECTOR, Rows
from pomona.exports.target import LISTED, Database, of_export
from pomona.extras import check_extra
from pomona.io.location import check_output_here
from pomona.schema import encoder_of_row, encoder_value
from pomona.table.feature_table import check_output

if TYPE_CHECKING:
    import duckdb

__all__ = ["DuckDb"]

_COLUMNS = (
    "path VARCHAR, label VARCHAR, width INTEGER, height INTEGER, format VARCHAR, "
    "content_sha256 VARCHAR"
)


class DuckDb(Database):
    """A table of a DuckDB file. All changes of an export are one transaction."""

    has_float16 = False
    is_atomic = True

    def __init__(self, place: str, name: str) -> None:
        check_extra("duckdb", "duckdb:FILE needs DuckDB", "duckdb")
        import duckdb

        self.errors = (duckdb.Error,)
        self._file = check_output_here(Path(place), UsageError)
        check_output(self._file)
        self._name = name
        self._is_new = False
        self._opened: duckdb.DuckDBPyConnection | None = None

    def __str__(self) -> str:
        return f"duckdb:{self._file}"

    @property
    def _database(self) -> duckdb.DuckDBPyConnection:
        if self._opened is None:
            import duckdb

            self._is_new = not self._file.exists()
            self._opened = duckdb.connect(self._file)
            self._opened.begin()
        return self._opened

    def about(self) -> dict[str, str] | None:
        """Return the provenance in the table's comment."""
        if not self._file.exists():
            return None
        query = "SELECT comment FROM duckdb_tables() WHERE table_name = ? AND NOT internal"
        found = self._database.execute(query, [self._name]).fetchone()
        return of_export(encoder_of_row(found[0]), self, self._name) if found else None

    def create(self, about: Mapping[str, str]) -> None:
        """Create the table, with the provenance as its comment."""
        columns = f"{_COLUMNS}, {VECTOR} FLOAT[{about['dimension']}]"
        comment = encoder_value(about).replace("'", "''")
        self._database.execute(f'CREATE OR REPLACE TABLE "{self._name}" ({columns})')
        self._database.execute(f"COMMENT ON TABLE \"{self._name}\" IS '{comment}'")

    def listed(self) -> Iterator[pa.RecordBatch]:
        """Yield paths, labels and digests."""
        query = f'SELECT {", ".join(LISTED.names)} FROM "{self._name}"'  # noqa: S608 - a checked name
        yield from self._database.execute(query).to_arrow_reader(65_536)

    def insert(self, rows: Rows) -> None:
        """Insert the rows."""
        self._with(rows.to_arrow(), f'INSERT INTO "{self._name}" SELECT * FROM given')  # noqa: S608

    def update(self, rows: Rows) -> None:
        """Delete the rows of these paths, and insert them."""
        self.delete(rows.paths)
        self.insert(rows)

    def delete(self, paths: Sequence[str]) -> None:
        """Delete the rows of these paths."""
        given = pa.record_batch({"path": pa.array(paths, pa.string())})
        query = f'DELETE FROM "{self._name}" WHERE path IN (SELECT path FROM given)'  # noqa: S608
        self._with(given, query)

    def _with(self, given: pa.RecordBatch, query: str) -> None:
        self._database.register("given", pa.Table.from_batches([given]))
        self._database.execute(query)
        self._database.unregister("given")

    def commit(self) -> None:
        """Commit the transaction."""
        self._database.commit()
        self._is_new = False

    def close(self) -> None:
        """Close the file; delete it if this export created it and did not complete."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None
            if self._is_new:
                with suppress(OSError):
                    self._file.unlink()
