"""Writing a feature table on this machine: one writer at a time, complete part files only."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pomona.schema import kept_columns, schema_with_provenance
from pomona.table.feature_table import FeatureTable
from pomona.table.held_table import HeldTable
from pomona.table.hold import FolderLock, Hold, held
from pomona.table.journal import PutAway
from pomona.table.makers import check_same_maker
from pomona.table.part_file import PartWriter, copy_rows, groups_to_merge, part_name
from pomona.table.row_encoders import part_provenance
from pomona.table.store import LocalStore

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["TableWriter", "check_writable", "writing"]


class TableWriter(HeldTable):
    """A feature table on this machine, held for one run.

    Attributes:
        table: the table.
        staging: a folder in it where part files are written before they join it.
    """

    def __init__(self, table: FeatureTable, hold: Hold, staging: str) -> None:
        store = LocalStore(table.folder)
        super().__init__(store, _Copier(table.folder), hold, staging)
        self.table = table
        self.staging = table.folder / staging

    def commit(self, part: Path) -> None:
        """Move a complete part file from the staging folder into the table; then its rows count."""
        self.add([part.name], str(part.parent.relative_to(self.table.folder)))

    def append_batches(
        self, batches: Iterable[pa.RecordBatch], provenance: Mapping[str, str]
    ) -> None:
        """Write rows as a new part file, and commit it."""
        part: PartWriter | None = None
        for batch in batches:
            if part is None:
                schema = schema_with_provenance(provenance, kept_columns(batch.schema))
                part = PartWriter(self.staging / part_name(), schema)
            part.write(batch)
        if part is not None:
            part.close()
            self.commit(part.path)


@dataclass(frozen=True, slots=True)
class _Copier:
    """Copies part files with Arrow, row group by row group."""

    folder: Path

    def groups(self, parts: list[str]) -> list[list[str]]:
        """Return each part file alone: its copy has the same name, so one move replaces it."""
        return [[part] for part in parts]

    def groups_to_merge(self, sizes: dict[str, int]) -> list[list[str]]:
        """Choose among the part files of each provenance."""
        if not groups_to_merge(sizes):
            return []  # without reading footers
        by_maker: dict[str, dict[str, int]] = {}
        for part, size in sizes.items():
            maker = json.dumps(part_provenance(self.folder / part), sort_keys=True)
            by_maker.setdefault(maker, {})[part] = size
        return [group for some in by_maker.values() for group in groups_to_merge(some)]

    def copy(
        self,
        parts: list[str],
        place: str,
        *,
        without: Collection[bytes] = (),
        labels: Mapping[bytes, str | None] | None = None,
    ) -> list[str]:
        """Copy rows into one new part file."""
        name = parts[0] if len(parts) == 1 else part_name()
        old = [self.folder / part for part in parts]
        return [name] if copy_rows(old, self.folder / place / name, without, labels) else []


def check_writable(
    table: FeatureTable,
    provenance: Mapping[str, str],
    *,
    overwrite: bool,
    kept: pa.Schema | None = None,
) -> None:
    """Check that `writing` can hold the table, unless another run holds it.

    Raises:
        TableError: the folder is not a table, is not writable, or has rows of another encoder.
    """
    table.check_folder()
    if table.exists():
        found = table.provenance()
        if not overwrite:
            check_same_maker(table.folder, found, provenance)
            table.check_continuable(found, kept)


@contextmanager
def writing(
    table: FeatureTable,
    provenance: Mapping[str, str],
    *,
    overwrite: bool,
    kept: pa.Schema | None = None,
) -> Iterator[TableWriter]:
    """Hold a table for one writer.

    Args:
        table: an existing or new table.
        provenance: the provenance of the new rows.
        overwrite: replace the existing rows; they are restored if no new rows arrive.
        kept: columns of the rows after those of every table.

    Raises:
        TableError: the folder is not a table, is not writable, has rows of another encoder, or
            another run is writing it.
    """
    table.check_folder()

    def check() -> None:
        check_writable(table, provenance, overwrite=overwrite, kept=kept)

    store = LocalStore(table.folder)
    with held(store, FolderLock(table.folder), check) as (hold, staging):
        if overwrite:
            PutAway.do(store, staging)
        yield TableWriter(table, hold, staging)
