"""The files of one table: the interface of a storage, and its implementation for local disks."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from pomona.errors import TableError
from pomona.io.folders import Entry, LocalFolder
from pomona.table.parts import is_part_name

__all__ = ["LocalStore", "Store", "part_entries", "sync"]


class Store(Protocol):
    """The files of one table.

    A name is relative to the table's folder. A place is the folder itself, "", or one in it. When a
    method returns, its changes are on the storage. All methods raise `OSError` or `TableError` if
    the storage fails.

    Attributes:
        moves_whole: whether moves are atomic. If not, a kill may leave a file at both names, and
            incomplete at the new one.
    """

    moves_whole: ClassVar[bool]

    def __str__(self) -> str:
        """The table's path or URI."""

    def entries(self, place: str = "") -> dict[str, Entry]:
        """Return the entries of a place, by name; empty if the place does not exist."""

    def read(self, name: str) -> bytes:
        """Return the content of a file."""

    def write(self, name: str, content: bytes) -> None:
        """Create or replace a small file; atomically if `moves_whole`."""

    def sync(self, names: Iterable[str]) -> None:
        """Make sure that files and their names are on the storage."""

    def move(self, names: Iterable[str], source: str, target: str) -> None:
        """Move existing files to another place. They replace files of the same name there."""

    def delete(self, names: Iterable[str]) -> None:
        """Delete files; missing files are skipped."""

    def make_place(self, place: str) -> None:
        """Create a folder."""

    def remove_place(self, place: str) -> None:
        """Delete a folder and its content, as far as possible now."""


def part_entries(store: Store) -> dict[str, Entry]:
    """Return the part files directly in a table's folder, by name."""
    return {
        name: entry
        for name, entry in store.entries().items()
        if not entry.is_folder and is_part_name(name)
    }


@dataclass(frozen=True, slots=True)
class LocalStore:
    """A folder of this machine's file system. A move is a rename."""

    folder: Path
    moves_whole: ClassVar[bool] = True

    def __str__(self) -> str:
        return str(self.folder)

    def entries(self, place: str = "") -> dict[str, Entry]:
        """Return the entries of a place, by name."""
        return {entry.name: entry for entry in LocalFolder(self._folder(place)).entries()}

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        path = self._file(name)
        if "/" in name:
            _refuse_link(path)
        return path.read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """Write a draft and rename it."""
        path = self._file(name)
        draft = path.with_name(f"{path.name}.partial")
        draft.unlink(missing_ok=True)
        with draft.open("xb") as file:  # a new file, not the target of a link
            file.write(content)
        sync(draft)
        draft.replace(path)
        sync(path.parent)

    def sync(self, names: Iterable[str]) -> None:
        """Make sure that files are on the disk."""
        paths = [self._file(name) for name in names]
        for path in paths:
            sync(path)
        for folder in {path.parent for path in paths}:
            sync(folder)

    def move(self, names: Iterable[str], source: str, target: str) -> None:
        """Rename files after their content is on the disk.

        If the rename reached the disk first and the machine crashed, the table would have an empty
        file.
        """
        names, old, new = list(names), self._folder(source), self._folder(target)
        for name in names:
            sync(old / name)
        for name in names:
            _remove_checksum(new / name)
            (old / name).replace(new / name)
        if names:
            sync(new)
            sync(old)

    def delete(self, names: Iterable[str]) -> None:
        """Delete files, and the checksums that Hadoop may have left next to them."""
        paths = [self._file(name) for name in names]
        for path in paths:
            path.unlink(missing_ok=True)
            _remove_checksum(path)
        for folder in {path.parent for path in paths}:
            sync(folder)

    def make_place(self, place: str) -> None:
        """Create a folder."""
        folder = self._folder(place)
        folder.mkdir()
        sync(folder.parent)

    def remove_place(self, place: str) -> None:
        """Delete a folder. If a killed run still writes there, the next run deletes it."""
        shutil.rmtree(self._folder(place), ignore_errors=True)

    def _folder(self, place: str) -> Path:
        """Return the path of a place.

        Raises:
            TableError: it is a link, so files of another folder would change.
        """
        path = self.folder
        for step in filter(None, place.split("/")):
            path /= step
            _refuse_link(path)
        return path

    def _file(self, name: str) -> Path:
        place, _, file = name.rpartition("/")
        return self._folder(place) / file


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise TableError(
            f"{path} is a link, which no run creates: check where the table comes from, and delete "
            "it, or give another TABLE"
        )


def sync(path: Path) -> None:
    """Make sure that a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems do not support this for folders
            raise
    finally:
        os.close(descriptor)


def _remove_checksum(part: Path) -> None:
    """Delete the checksum that Hadoop may have left: it would not fit a new file of that name."""
    part.with_name(f".{part.name}.crc").unlink(missing_ok=True)
