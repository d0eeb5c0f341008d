"""What is written down in a table's staging folder before files change their place.

A move of one file is one step. A merge of part files, or putting a whole table away, takes several.
So the names are written down first. Whoever comes after a run that was killed can tell how far it
was, and completes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

from pomona.errors import RunError, TableError
from pomona.table.feature_table import STAGING, is_table_file
from pomona.table.parts import is_part_name
from pomona.table.store import Store

__all__ = ["PutAway", "Swap", "recover"]

_SWAP = "swap.json"
_PUT_AWAY = "put-away.json"
_REPLACED = "replaced"  # where the rows wait that the run replaces


@dataclass(frozen=True, slots=True)
class Swap:
    """Part files that give way to others, which have all of their rows that stay.

    Attributes:
        old: their names, in the table.
        new: the names of the others, in a place of their own until they are moved to the table. A
            part file may give way to one of the same name.
    """

    old: list[str]
    new: list[str]

    def do(self, store: Store, place: str) -> None:
        """Carry it out, and write it down before if it takes more than one step.

        Raises:
            RunError: a new part file is not in its place. Nothing was changed.
        """
        there = store.entries(place)
        if missing := [name for name in self.new if name not in there]:
            raise RunError(
                f"{store}/{place}/{missing[0]} went away before it could join the table: is "
                "another run writing it? Run it again"
            )
        store.sync(f"{place}/{name}" for name in self.new)  # the old ones go before they move
        steps = len({*self.old} - {*self.new}) + len(self.new)
        is_written_down = steps > 1 or not store.moves_whole
        if is_written_down:
            store.write(f"{place}/{_SWAP}", json.dumps(asdict(self)).encode())
        self._carry_out(store, place, self.new)
        if is_written_down:
            store.delete([f"{place}/{_SWAP}"])

    def finish(self, store: Store, place: str) -> None:
        """Carry out what is written down, from wherever it was cut off."""
        there = store.entries(place)
        self._carry_out(store, place, [name for name in self.new if name in there])
        store.delete([f"{place}/{_SWAP}"])

    def _carry_out(self, store: Store, place: str, left: list[str]) -> None:
        """Delete the old part files, and move the new ones that are left in their place."""
        if left == self.new:  # else the first was moved already, and the old ones had gone before
            store.delete(name for name in self.old if name not in self.new)
        store.move(left, place, "")


@dataclass(frozen=True, slots=True)
class PutAway:
    """A table's files, put away for the rows of a run that replaces them all.

    The store must move whole files. Others delete the old rows, which saves a copy of them.
    They are all away before that run writes anything. So a part file in the table that is none of
    them says that the new rows have come. Until then, the old ones are given back.

    Attributes:
        names: of the files.
    """

    names: list[str]

    @classmethod
    def do(cls, store: Store, staging: str) -> None:
        """Write the names down, and move the files."""
        found = (entry.name for entry in store.entries().values() if not entry.is_folder)
        names = sorted(name for name in found if is_table_file(name, is_folder=False))
        store.make_place(f"{staging}/{_REPLACED}")
        store.write(f"{staging}/{_PUT_AWAY}", json.dumps(asdict(cls(names))).encode())
        store.move(names, "", f"{staging}/{_REPLACED}")

    def give_back(self, store: Store, staging: str) -> None:
        """Move the files back, unless others have come in their place."""
        away = store.entries(f"{staging}/{_REPLACED}")
        if all(name in self.names for name in filter(is_part_name, store.entries())):
            back = (name for name in self.names if name in away)
            store.move(back, f"{staging}/{_REPLACED}", "")
        store.delete([f"{staging}/{_PUT_AWAY}"])


def recover(store: Store, check: Callable[[], None] = lambda: None) -> None:
    """Complete what a writer had begun and left, or give back what it had put away.

    Args:
        store: the table's files, held by this run.
        check: raises if they are no longer held; called before each change.

    Raises:
        TableError: what is written down is nothing that a writer writes.
    """
    for staging, entry in store.entries().items():
        if not (entry.is_folder and staging.startswith(STAGING)):
            continue
        inner = store.entries(staging)
        swaps = [f"{staging}/{name}" for name in inner if name.startswith("swap-")]
        for place in [staging, *swaps]:
            if _SWAP in store.entries(place) and (
                names := _names_in(store, f"{place}/{_SWAP}", ("old", "new"))
            ):
                check()
                Swap(**names).finish(store, place)
        if _PUT_AWAY in inner and (names := _names_in(store, f"{staging}/{_PUT_AWAY}", ("names",))):
            check()
            PutAway(**names).give_back(store, staging)


def _names_in(store: Store, file: str, keys: tuple[str, ...]) -> dict[str, list[str]] | None:
    """Read names of a table's files that were written down as JSON.

    A table may come from anywhere: a name that leads out of it is never followed.

    Args:
        store: has the file.
        file: its name.
        keys: what the names are of.

    Returns:
        None if the file was cut off while it was written: nothing was moved then.

    Raises:
        TableError: it is something else.
    """
    try:
        found = json.loads(store.read(file).decode(errors="replace"))
    except (ValueError, RecursionError):
        if not store.moves_whole:
            return None
        found = None
    if not (
        isinstance(found, dict)
        and found.keys() == set(keys)
        and all(isinstance(names, list) for names in found.values())
        and all(_is_file_of_table(name) for names in found.values() for name in names)
    ):
        raise TableError(
            f"{store}/{file} does not say which of the table's files are to be moved, as a run "
            "does that was cut off: see where the table comes from, and remove that file, or give "
            "another TABLE"
        )
    return found


def _is_file_of_table(name: object) -> bool:
    return (
        isinstance(name, str)
        and "/" not in name
        and "\0" not in name
        and is_table_file(name, is_folder=False)
    )
