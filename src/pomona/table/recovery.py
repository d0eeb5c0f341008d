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

from pomona.errors import TableError
from pomona.table.feature_table import STAGING, FeatureTable, is_table_file
from pomona.table.part_file import remove_part

__all__ = ["SWAP", "Overwrite", "Replacement", "names_written_down", "recover", "sync"]

SWAP = "swap.json"
"""The name of the file in which a merge of part files is written down."""

_PUT_AWAY = "put-away.json"
_REPLACED = "replaced"  # where the rows wait that --overwrite puts away


@dataclass(frozen=True, slots=True)
class Replacement:
    """Part files that give way to others that have all of their rows.

    Attributes:
        old: their names, in the table.
        new: the names of the others, in the staging folder until they take their place.
    """

    old: list[str]
    new: list[str]

    def do(self, folder: Path, staging: Path) -> None:
        """Write it down, and carry it out."""
        for name in self.new:
            sync(staging / name)
        _write_down(staging / SWAP, asdict(self))
        self.finish(folder, staging)

    def finish(self, folder: Path, staging: Path) -> None:
        """Carry it out, from wherever it was cut off."""
        # Where the first was moved already, the old ones had gone before.
        if all((staging / name).exists() for name in self.new):
            for name in self.old:
                remove_part(folder / name)
        _move(self.new, staging, folder)
        (staging / SWAP).unlink()


@dataclass(frozen=True, slots=True)
class Overwrite:
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


def recover(table: FeatureTable) -> None:
    """Complete what a writer had begun and left, or give back what it had put away.

    Raises:
        TableError: what is written down is nothing that a writer writes.
    """
    for written in table.folder.glob(f"{STAGING}*/{SWAP}"):
        _refuse_links(written, written.parent)
        names = names_written_down(_text_of(written), ("old", "new"), written)
        Replacement(**names).finish(table.folder, written.parent)
    for written in table.folder.glob(f"{STAGING}*/{_PUT_AWAY}"):
        _refuse_links(written, written.parent, written.parent / _REPLACED)
        names = names_written_down(_text_of(written), ("names",), written)
        Overwrite(**names).give_back(table.folder, written.parent)


def names_written_down(text: str, keys: tuple[str, ...], path: object) -> dict[str, list[str]]:
    """Read names of a table's files that were written down as JSON.

    A table may come from anywhere: a name that leads out of it is never followed.

    Args:
        text: what was written down.
        keys: what names there are of.
        path: where, for errors.

    Raises:
        TableError: it is something else.
    """
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        told = None
    if not (
        isinstance(told, dict)
        and told.keys() == set(keys)
        and all(isinstance(names, list) for names in told.values())
        and all(_names_file_of_table(name) for names in told.values() for name in names)
    ):
        raise TableError(
            f"{path} does not say which of the table's files are to be moved, as a run does that "
            "was cut off: see where the table comes from, and remove that file, or give another "
            "TABLE"
        )
    return told


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


def _refuse_links(*paths: Path) -> None:
    """No run leaves links: behind one, files of another folder would be moved."""
    if link := next(filter(Path.is_symlink, paths), None):
        raise TableError(
            f"{link} is a link, which no run leaves: see where the table comes from, and remove "
            "it, or give another TABLE"
        )


def _text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _is_file_of_table(path: Path) -> bool:
    return path.is_file() and _names_file_of_table(path.name)


def _names_file_of_table(name: object) -> bool:
    return (
        isinstance(name, str)
        and "/" not in name
        and "\0" not in name
        and is_table_file(name, is_folder=False)
    )
