"""`lance:FOLDER`: a table of a LanceDB database, which is also a Lance dataset `NAME.lance`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from pomona.exports.files.whole import folder_to_write
from pomona.exports.rows import Rows, row_schema
from pomona.exports.target import LISTED, Database, of_export
from pomona.extras import check_extra
from pomona.schema import column_metadata, provenance_of_column

if TYPE_CHECKING:
    from lancedb.table import Table

__all__ = ["Lance"]


class Lance(Database):
    """A table of a LanceDB folder. Each batch of rows is a version of the table."""

    has_float16 = True
    is_atomic = False
    errors = (RuntimeError, ValueError, OSError)  # LanceDB has no exceptions of its own

    def __init__(self, place: str, name: str) -> None:
        check_extra("lance", "lance:FOLDER needs LanceDB", "lancedb")
        self._folder = folder_to_write(place)
        self._name = name
        self._opened: Table | None = None

    def __str__(self) -> str:
        return f"lance:{self._folder}"

    @property
    def _table(self) -> Table:
        if self._opened is None:
            import lancedb

            self._opened = lancedb.connect(self._folder).open_table(self._name)
        return self._opened

    def about(self) -> dict[str, str] | None:
        """Return the provenance in the metadata of the schema."""
        if not (self._folder / f"{self._name}.lance").exists():
            return None
        metadata = self._table.schema.metadata or {}
        found = provenance_of_column({k.decode(): v.decode() for k, v in metadata.items()})
        return of_export(found, self, self._name)

    def create(self, about: Mapping[str, str]) -> None:
        """Create the table, with the provenance as metadata of the schema."""
        import lancedb

        schema = row_schema(int(about["dimension"]), about["vector_type"])
        schema = schema.with_metadata(column_metadata(about))
        database = lancedb.connect(self._folder)
        # LanceDB warns if there is nothing to overwrite.
        mode = "create" if self._opened is None else "overwrite"
        self._opened = database.create_table(self._name, schema=schema, mode=mode)

    def listed(self) -> Iterator[pa.RecordBatch]:
        """Yield paths, labels and digests."""
        yield from self._table.search().select(LISTED.names).to_batches(65_536)

    def insert(self, rows: Rows) -> None:
        """Append the rows."""
        self._table.add(pa.Table.from_batches([rows.to_arrow()]))

    def update(self, rows: Rows) -> None:
        """Replace the rows of these paths, in one version."""
        merge = self._table.merge_insert("path").when_matched_update_all()
        merge.execute(pa.Table.from_batches([rows.to_arrow()]))

    def delete(self, paths: Sequence[str]) -> None:
        """Delete the rows of these paths."""
        quoted = ("'" + path.replace("'", "''") + "'" for path in paths)
        self._table.delete(f"path IN ({', '.join(quoted)})")

    def commit(self) -> None:
        """Merge the files of the batches."""
        self._table.optimize()

    def close(self) -> None:
        """Leave the table to the garbage collector: LanceDB has nothing to close."""
        self._opened = None
