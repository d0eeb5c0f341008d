"""The files of a feature table that is a Delta table: a change is one commit of its log."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from pomona.errors import RunError, TableError
from pomona.io.delta_log import delta_errors, open_delta, read_delta_log
from pomona.io.folders import Entry, LocalFolder
from pomona.table.parts import is_part_name
from pomona.table.store import LocalStore, sync

if TYPE_CHECKING:
    from deltalake.transaction import AddAction

__all__ = ["DeltaStore"]

_LOG = "_delta_log"
_COMMITS = threading.Lock()  # the threads of a run commit one after the other

_VERSIONS = frozenset({1, 2, 7})  # 7 names its features; those between have some of them
_KEPT = frozenset({"appendOnly", "invariants"})  # features of writers that a commit here keeps


class DeltaStore(LocalStore):
    """A folder of this machine's file system whose part files count if a Delta log names them.

    A file that a killed run moved here and did not commit does not count. Deleted files stay for
    readers of older versions. `VACUUM` deletes both.
    """

    __slots__ = ()

    def entries(self, place: str = "") -> dict[str, Entry]:
        """Return the entries of a place; in the table's folder without other part files."""
        found = LocalStore.entries(self, place)
        if place:
            return found
        named = self._named() if any(map(is_part_name, found)) else set()
        return {
            name: entry
            for name, entry in found.items()
            if entry.is_folder or not is_part_name(name) or name in named
        }

    def move(self, names: Iterable[str], source: str, target: str) -> None:
        """Move files; if they are part files that join the table, in one commit."""
        names = list(names)
        LocalStore.move(self, names, source, target)
        if names and not target:
            self._commit([], names)

    def delete(self, names: Iterable[str]) -> None:
        """Delete files; part files of the table by one commit."""
        names = list(names)
        parts = [name for name in names if "/" not in name and is_part_name(name)]
        LocalStore.delete(self, [name for name in names if name not in parts])
        if parts:
            self._commit(parts, [])

    def replace(self, old: list[str], new: list[str], place: str) -> None:
        """Replace part files of the table with those in a place, in one commit."""
        LocalStore.move(self, new, place, "")
        self._commit(old, new)

    def prepare(self, schema: pa.Schema, place: str, *, overwrite: bool) -> None:
        """Create the table if it does not exist, delete all rows, or add columns, in one commit.

        Args:
            schema: the columns of the table.
            place: an empty place. The log is created there and moved, so that it appears whole.
            overwrite: whether the rows of an existing table are deleted. Older versions keep them.
        """
        from deltalake import DeltaTable, Schema

        columns = Schema.from_arrow(schema)
        with _COMMITS, delta_errors(str(self), RunError):
            if not self._log.exists():
                draft = self.folder / place / "log"
                DeltaTable.create(draft.absolute().as_uri(), columns)
                (draft / _LOG).rename(self._log)
                sync(self.folder)
            elif overwrite:
                open_delta(self.folder).create_write_transaction([], "overwrite", columns)
            else:
                table = open_delta(self.folder)
                found = {field.name for field in table.schema().fields}
                if missing := [field for field in columns.fields if field.name not in found]:
                    table.alter.add_columns(missing)

    @property
    def _log(self) -> Path:
        return self.folder / _LOG

    def check(self) -> None:
        """Check that Pomona can write the table as its features demand.

        Raises:
            TableError: it cannot.
        """
        with delta_errors(str(self), TableError):
            table = open_delta(self.folder)
            protocol, settings = table.protocol(), table.metadata().configuration
            schema = pa.schema(table.schema().to_arrow())
        found = set(protocol.writer_features or ()) - _KEPT
        if settings.get("delta.appendOnly") == "true":
            found.add("appendOnly")
        if any(not f.nullable or b"delta.invariants" in (f.metadata or {}) for f in schema):
            found.add("constraints on columns")
        if protocol.min_writer_version not in _VERSIONS:
            found.add(f"the writer version {protocol.min_writer_version}")
        if found:
            raise TableError(
                f"{self} is a Delta table with {', '.join(sorted(found))}, which Pomona does not "
                "write: give another TABLE, and append from there with Spark"
            )

    def _named(self) -> set[str]:
        if not self._log.exists():
            return set()
        return {file.name for file in read_delta_log(LocalFolder(self.folder), TableError)[1]}

    def _commit(self, old: list[str], new: list[str]) -> None:
        """Remove part files from the table and add others, in one commit.

        Raises:
            RunError: another program has changed the table so that the commit would be wrong.
        """
        from deltalake.transaction import RemoveAction

        now = int(time.time() * 1000)
        added = [_added(self.folder / name, now) for name in new]
        removed = [RemoveAction(name, True, now) for name in old]
        with _COMMITS, delta_errors(str(self), RunError):
            table = open_delta(self.folder)
            named = set(pa.table(table.get_add_actions())["path"].to_pylist())
            if gone := set(old) - named:
                raise RunError(
                    f"another program has replaced {min(gone)} in the Delta table {self} during "
                    "the run: run it again"
                )
            table.create_write_transaction([*removed, *added], "append", table.schema())


def _added(file: Path, now: int) -> AddAction:
    from deltalake.transaction import AddAction

    stats = json.dumps({"numRecords": pq.read_metadata(file).num_rows})
    return AddAction(file.name, file.stat().st_size, {}, now, True, stats)
