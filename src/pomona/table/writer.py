"""Writing a feature table without Spark: one writer at a time, complete part files only."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pomona.schema import kept_columns, schema_with_provenance
from pomona.table.delta_store import DeltaStore
from pomona.table.feature_table import FeatureTable
from pomona.table.held_table import HeldTable
from pomona.table.hold import FolderLock, Hold, held
from pomona.table.journal import PutAway
from pomona.table.lease import Lease
from pomona.table.makers import check_same_maker
from pomona.table.part_file import PartWriter, copy_rows, groups_to_merge, part_name
from pomona.table.remote_store import RemoteStore
from pomona.table.row_encoders import part_provenance
from pomona.table.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["TableWriter", "check_writable", "writing"]


class TableWriter(HeldTable):
    """A feature table that this process holds for one run, on this machine or in an object store.

    Attributes:
        table: the table.
        staging: a folder on this machine where part files are written before they join the table.
    """

    def __init__(
        self, table: FeatureTable, hold: Hold, place: str, drafts: Path | None = None
    ) -> None:
        """Change nothing yet.

        Args:
            table: the table.
            hold: the lock that keeps other writers away.
            place: the place in the table where part files are before they join it.
            drafts: if the table is in an object store, a folder of this machine with the same
                places, where files are written.
        """
        drafts = drafts or table.folder
        self._drafts = _Drafts(table.store, drafts)
        super().__init__(table.store, _Copier(table, self._drafts), hold, place)
        self.table = table
        self.staging = drafts / place

    def commit(self, *parts: Path) -> None:
        """Move complete part files of one staging folder into the table; then their rows count."""
        for place in {self._drafts.sent(part) for part in parts}:
            self.add([part.name for part in parts], place)

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
class _Drafts:
    """Files that are written on this machine.

    Attributes:
        store: the table's files.
        folder: contains the same places as the table.
    """

    store: Store
    folder: Path

    def sent(self, part: Path) -> str:
        """Return the place of a complete part file, after sending it to an object store."""
        place = str(part.parent.relative_to(self.folder))
        if isinstance(self.store, RemoteStore):
            self.store.send(part, f"{place}/{part.name}")
            part.unlink()
        return place

    def read(self, parts: list[str], place: str) -> Iterator[Path]:
        """Yield part files of the table to read, after fetching each from an object store."""
        for part in parts:
            if isinstance(self.store, RemoteStore):
                copy = self.folder / place / f"old-{part}"
                self.store.fetch(part, copy)
                yield copy
                copy.unlink()
            else:
                yield self.folder / part


@dataclass(frozen=True, slots=True)
class _Copier:
    """Copies part files with Arrow, row group by row group."""

    table: FeatureTable
    drafts: _Drafts

    def groups(self, parts: list[str]) -> list[list[str]]:
        """Return each part file alone: its copy has the same name, so one move replaces it."""
        return [[part] for part in parts]

    def groups_to_merge(self, sizes: dict[str, int]) -> list[list[str]]:
        """Choose among the part files of each provenance."""
        if not groups_to_merge(sizes):
            return []  # without reading footers
        by_maker: dict[str, dict[str, int]] = {}
        for part in self.table.own_parts():
            maker = json.dumps(part_provenance(part), sort_keys=True)
            by_maker.setdefault(maker, {})[part.name] = sizes[part.name]
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
        keeps_name = len(parts) == 1 and not isinstance(self.drafts.store, DeltaStore)
        name = parts[0] if keeps_name else part_name()
        new = self.drafts.folder / place / name
        new.parent.mkdir(exist_ok=True)
        if not copy_rows(self.drafts.read(parts, place), new, without, labels):
            return []
        self.drafts.sent(new)
        return [name]


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
            check_same_maker(table, found, provenance)
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
        overwrite: replace the existing rows. On this machine, they are restored if no new rows
            arrive.
        kept: columns of the rows after those of every table.

    Raises:
        TableError: the folder is not a table, is not writable, has rows of another encoder, or
            another run is writing it.
    """
    table.check_folder()

    def check() -> None:
        check_writable(table, provenance, overwrite=overwrite, kept=kept)

    store = table.store
    if isinstance(store, RemoteStore):
        with (
            held(store, Lease(store), check) as (hold, place),
            tempfile.TemporaryDirectory(prefix="pomona-") as folder,
        ):
            Path(folder, place).mkdir()
            writer = TableWriter(table, hold, place, Path(folder))
            if overwrite:
                writer.delete_all()
            yield writer
    else:
        with held(store, FolderLock(table.folder), check) as (hold, place):
            if isinstance(store, DeltaStore):
                schema = schema_with_provenance(provenance, kept or ())
                store.prepare(schema, place, overwrite=overwrite)
            elif overwrite:
                PutAway.do(store, place)
            yield TableWriter(table, hold, place)
