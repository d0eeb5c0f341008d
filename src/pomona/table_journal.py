"""What is written down in a table's staging folder before files change their place.

A rename is one step; a merge of part files, or putting a whole table away, takes several. So that
whoever comes after a run that was killed can tell how far it was, the names go to the disk first.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from pomona.table import STAGING, FeatureTable, is_table_file

__all__ = ["SWAP", "PutAway", "Swap", "sync", "take_up"]

SWAP = "swap.json"
"""The name of the file in which a merge of part files is written down."""

_PUT_AWAY = "put-away.json"
_REPLACED = "replaced"  # where the rows wait that --overwrite puts away


@dataclass(frozen=True, slots=True)
class Swap:
    """Part files that give way to one that has all of their rows.

    Attributes:
        old: their names, in the table.
        new: the name of the one, in the staging folder until it takes their place.
    """

    old: list[str]
    new: str

    def do(self, folder: Path, staging: Path) -> None:
        """Write it down, and carry it out."""
        sync(staging / self.new)
        _write_down(staging / SWAP, asdict(self))
        self.finish(folder, staging)

    def finish(self, folder: Path, staging: Path) -> None:
        """Carry it out, from wherever it was cut off."""
        if (staging / self.new).exists():
            for name in self.old:
                (folder / name).unlink(missing_ok=True)
            (staging / self.new).replace(folder / self.new)
            sync(folder)
        (staging / SWAP).unlink()


@dataclass(frozen=True, slots=True)
class PutAway:
    """A table's files, put away for the rows of a run that replaces them all.

    They are all away before that run writes anything. So a part file in the table that is none of
    them says that the new rows have come; until then the old ones are owed back.

    Attributes:
        names: of the files.
    """

    names: list[str]

    @classmethod
    def do(cls, folder: Path, staging: Path) -> None:
        """Write the names down, and move the files."""
        names = sorted(path.name for path in folder.iterdir() if _is_file_of_table(path))
        (staging / _REPLACED).mkdir()
        _write_down(staging / _PUT_AWAY, asdict(cls(names)))
        _move(names, folder, staging / _REPLACED)

    def give_back(self, folder: Path, staging: Path) -> None:
        """Move the files back, unless others have come in their place."""
        if all(part.name in self.names for part in FeatureTable(folder).parts()):
            _move(self.names, staging / _REPLACED, folder)
        (staging / _PUT_AWAY).unlink()


def take_up(table: FeatureTable) -> None:
    """Complete what a writer had begun and left, or give back what it had put away."""
    for written in table.folder.glob(f"{STAGING}*/{SWAP}"):
        Swap(**json.loads(written.read_text())).finish(table.folder, written.parent)
    for written in table.folder.glob(f"{STAGING}*/{_PUT_AWAY}"):
        PutAway(**json.loads(written.read_text())).give_back(table.folder, written.parent)


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that does not do this for folders
            raise
    finally:
        os.close(descriptor)


def _write_down(path: Path, told: dict[str, object]) -> None:
    written = path.with_suffix(".partial")
    written.write_text(json.dumps(told))
    sync(written)
    written.replace(path)
    sync(path.parent)


def _move(names: Iterable[str], source: Path, target: Path) -> None:
    """Move those files that are still in their old place."""
    for name in names:
        if (source / name).exists():
            (source / name).replace(target / name)
    sync(target)
    sync(source)


def _is_file_of_table(path: Path) -> bool:
    return path.is_file() and is_table_file(path.name, is_folder=False)
