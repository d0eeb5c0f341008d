"""The journal in a table's staging folder, which is written before files are moved.

Moving one file is one step. Merging part files, or putting a whole table away, takes several steps.
So the names are recorded first. The run after a killed one reads how far that was, and completes
its work.
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
_REPLACED = "replaced"  # the folder for the rows that the run replaces


@dataclass(frozen=True, slots=True)
class Swap:
    """The replacement of part files by others, which contain the remaining rows.

    Attributes:
        old: names of the old part files, in the table.
        new: names of the new ones, in a separate place until they are moved to the table. A new
            part file may have the name of an old one.
    """

    old: list[str]
    new: list[str]

    def do(self, store: Store, place: str) -> None:
        """Carry out the replacement. If it takes more than one step, record it first.

        Raises:
            RunError: a new part file is missing. Nothing was changed.
        """
        there = store.entries(place)
        if missing := [name for name in self.new if name not in there]:
            raise RunError(
                f"{store}/{place}/{missing[0]} disappeared before it was moved into the table: "
                "is another run writing it? Run it again"
            )
        store.sync(
            f"{place}/{name}" for name in self.new
        )  # the old ones are deleted before these are moved
        steps = len({*self.old} - {*self.new}) + len(self.new)
        is_written_down = steps > 1 or not store.moves_whole
        if is_written_down:
            store.write(f"{place}/{_SWAP}", json.dumps(asdict(self)).encode())
        self._carry_out(store, place, self.new)
        if is_written_down:
            store.delete([f"{place}/{_SWAP}"])

    def finish(self, store: Store, place: str) -> None:
        """Complete a recorded replacement after an interruption."""
        there = store.entries(place)
        self._carry_out(store, place, [name for name in self.new if name in there])
        store.delete([f"{place}/{_SWAP}"])

    def _carry_out(self, store: Store, place: str, left: list[str]) -> None:
        """Delete the old part files, and move the remaining new ones into the table."""
        if left == self.new:  # otherwise one was moved already, after the old ones were deleted
            store.delete(name for name in self.old if name not in self.new)
        store.move(left, place, "")


@dataclass(frozen=True, slots=True)
class PutAway:
    """The files of a table, put away while a run replaces all of them.

    The store must move files atomically. Other stores delete the old rows, which saves a copy. All
    files are away before the run writes anything. So any other part file in the table shows that
    the new rows have arrived. Until then, a recovery moves the old files back.

    Attributes:
        names: names of the files.
    """

    names: list[str]

    @classmethod
    def do(cls, store: Store, staging: str) -> None:
        """Record the names, and move the files."""
        found = (entry.name for entry in store.entries().values() if not entry.is_folder)
        names = sorted(name for name in found if is_table_file(name, is_folder=False))
        store.make_place(f"{staging}/{_REPLACED}")
        store.write(f"{staging}/{_PUT_AWAY}", json.dumps(asdict(cls(names))).encode())
        store.move(names, "", f"{staging}/{_REPLACED}")

    def give_back(self, store: Store, staging: str) -> None:
        """Move the files back, unless new part files are in the table."""
        away = store.entries(f"{staging}/{_REPLACED}")
        if all(name in self.names for name in filter(is_part_name, store.entries())):
            back = (name for name in self.names if name in away)
            store.move(back, f"{staging}/{_REPLACED}", "")
        store.delete([f"{staging}/{_PUT_AWAY}"])


def recover(store: Store, check: Callable[[], None] = lambda: None) -> None:
    """Complete or undo the work of a killed writer.

    Args:
        store: the table's files, held by this run.
        check: raises if this run no longer holds them; called before each change.

    Raises:
        TableError: no writer writes such a journal.
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
    """Read names of a table's files from a JSON file.

    A table may come from an untrusted source: names that lead out of it are refused.

    Args:
        store: the files of the table.
        file: name of the JSON file.
        keys: the keys of the lists of names.

    Returns:
        The names by key; None if the file is incomplete, because then nothing was moved.

    Raises:
        TableError: the file has other content.
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
            f"{store}/{file} does not say which of the table's files to move, as the file of "
            "an interrupted run does: check where the table comes from, and delete that file, or "
            "give another TABLE"
        )
    return found


def _is_file_of_table(name: object) -> bool:
    return (
        isinstance(name, str)
        and "/" not in name
        and "\0" not in name
        and is_table_file(name, is_folder=False)
    )
