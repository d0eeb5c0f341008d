"""Deleting, relabelling and merging rows of a table, the same way on every storage.

The remaining rows are copied to new part files in a staging folder, which then replace the old ones
(`pomona.table.journal`). A copier writes them: Arrow on this machine, Spark elsewhere.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from pomona.table.delta_store import DeltaStore
from pomona.table.hold import Hold
from pomona.table.journal import Swap
from pomona.table.row_index import NewLabels, RowsToDelete
from pomona.table.store import Store, part_entries

__all__ = ["Copier", "HeldTable"]


class Copier(Protocol):
    """Copies rows of part files to new ones."""

    def groups(self, parts: list[str]) -> list[list[str]]:
        """Divide part files into groups that are copied together."""

    def groups_to_merge(self, sizes: dict[str, int]) -> list[list[str]]:
        """Choose part files to merge, by their sizes in bytes."""

    def copy(
        self,
        parts: list[str],
        place: str,
        *,
        without: Collection[bytes] = (),
        labels: Mapping[bytes, str | None] | None = None,
    ) -> list[str]:
        """Copy the rows of part files into a new place.

        Args:
            parts: names of the part files.
            place: where the copies are written.
            without: keys of paths whose rows are left out, as `path_keys` makes them.
            labels: new labels by keys of paths; other rows keep theirs.

        Returns:
            The names of the copies; empty if no row is left.

        Raises:
            RunError: the copies lack rows.
        """


class HeldTable:
    """A feature table that one run holds."""

    def __init__(self, store: Store, copier: Copier, hold: Hold, staging: str) -> None:
        """Change nothing yet.

        Args:
            store: the table's files.
            copier: copies rows of its part files.
            hold: the lock that keeps other writers away.
            staging: the place where the run writes part files before they join the table.
        """
        self._staging = staging
        self._store = store
        self._copier = copier
        self._hold = hold
        self._successors: dict[
            str, list[str]
        ] = {}  # part files that replaced others, by the old name

    def sizes(self) -> dict[str, int]:
        """Return the sizes in bytes of the table's part files, by name."""
        return {name: entry.size for name, entry in part_entries(self._store).items()}

    def new_place(self) -> str:
        """Create a place for the part files of one swap."""
        place = f"{self._staging}/swap-{uuid.uuid4().hex[:12]}"
        self._store.make_place(place)
        return place

    def add(self, names: Iterable[str], place: str) -> None:
        """Move complete part files into the table; from then on, their rows count."""
        self._hold.check()
        self._store.move(names, place, "")

    def now(self, parts: Iterable[str]) -> list[str]:
        """Return the current part files with the rows of part files of the index."""
        now: set[str] = set()
        for part in parts:
            successors = self._successors.get(part)
            now.update([part] if successors is None else self.now(successors))
        return sorted(now)

    def delete_rows(self, rows: RowsToDelete) -> None:
        """Delete rows."""
        keys: dict[str, set[bytes]] = {}
        for part, some in rows.items():
            for name in self.now([part]):
                keys.setdefault(name, set()).update(some)
        for group in self._copier.groups(sorted(keys)):
            self._rewrite(group, without=set().union(*(keys[name] for name in group)))

    def delete_all(self) -> None:
        """Delete all part files."""
        self._hold.check()
        self._store.delete(self.sizes())

    def relabel(self, labels: NewLabels) -> None:
        """Change labels. A kill leaves a row with its old label or with its new one."""
        wanted: dict[str, dict[bytes, str | None]] = {}
        for part, some in labels.items():
            for name in self.now([part]):
                wanted.setdefault(name, {}).update(some)
        for group in self._copier.groups(sorted(wanted)):
            found = {key: label for name in group for key, label in wanted[name].items()}
            self._rewrite(group, labels=found)

    def compact(self) -> None:
        """Merge part files if there are many small ones.

        A reader does not see the rows between the deletion of the small files and the move of the
        merged one, which takes milliseconds on a disk. It never sees them twice.
        """
        for group in self._copier.groups_to_merge(self.sizes()):
            self._rewrite(group)

    def swap(self, old: list[str], new: list[str], place: str) -> None:
        """Replace part files of the table with those in a place."""
        self._hold.check()
        if isinstance(self._store, DeltaStore):
            self._store.replace(old, new, place)
        else:
            Swap(old, new).do(self._store, place)
        self._successors.update(dict.fromkeys((name for name in old if name not in new), new))

    def _rewrite(
        self,
        parts: list[str],
        without: Collection[bytes] = (),
        labels: Mapping[bytes, str | None] | None = None,
    ) -> None:
        """Replace part files with copies; the other arguments are those of `Copier.copy`."""
        place = self.new_place()
        copies = self._copier.copy(parts, place, without=without, labels=labels)
        self.swap(parts, copies, place)
