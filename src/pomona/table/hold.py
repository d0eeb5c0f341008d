"""Holding a table for one writer, after completing what killed writers left.

A kernel lock holds a folder of this machine. A lease holds one on a storage without locks
(`pomona.table.lease`).
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol

from pomona.errors import PomonaError, TableError
from pomona.table.feature_table import STAGING
from pomona.table.journal import recover
from pomona.table.store import Store

__all__ = ["FolderLock", "Hold", "held"]


class Hold(Protocol):
    """A lock that keeps other writers away from a table."""

    def check(self) -> None:
        """Check before files are moved that the lock still holds.

        Raises:
            RunError: another run may be writing.
        """


@contextmanager
def held(
    store: Store, lock: AbstractContextManager[Hold], check: Callable[[], None]
) -> Iterator[tuple[Hold, str]]:
    """Hold a table for one writer.

    Args:
        store: the files of the table.
        lock: a context that keeps other writers away.
        check: raises if the table may not be written. It is called after completing the work of a
            killed writer.

    Yields:
        The lock, and a new place in the table where part files are written before they join it.
    """
    with lock as hold:
        recover(store, hold.check)
        check()
        _remove_leftovers(store, hold)
        staging = f"{STAGING}{uuid.uuid4().hex[:12]}"
        store.make_place(staging)
        try:
            yield hold, staging
        finally:
            if _still_holds(hold):  # otherwise the folders may belong to another run
                recover(store, hold.check)  # if this fails, the next writer recovers
                # Also delete what processes of a killed run have written since this run began.
                _remove_leftovers(store, hold)


def _still_holds(hold: Hold) -> bool:
    try:
        hold.check()
    except (OSError, PomonaError):
        return False
    return True


def _remove_leftovers(store: Store, hold: Hold) -> None:
    for name, entry in store.entries().items():
        # Pomona's, and Spark's.
        if entry.is_folder and (name.startswith(STAGING) or name == "_temporary"):
            hold.check()
            store.remove_place(name)


class FolderLock:
    """The kernel's lock on a folder of this machine, which is created if necessary.

    The lock ends with its process, even if that is killed, and leaves no file. Folders that this
    object created are deleted if nothing was written into them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[Path] = []
        self._descriptor = -1

    def __enter__(self) -> FolderLock:
        """Create the folder and lock it.

        Raises:
            TableError: it cannot be created or locked, or another run holds it.
        """
        folder = self._folder
        self._made = [path for path in (folder, *folder.absolute().parents) if not path.exists()]
        while True:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(folder, os.O_RDONLY)
            except OSError as error:
                _remove_empty(self._made)
                raise TableError(f"cannot create {folder}: {error.strerror or error}") from error
            self._lock(descriptor)
            # A run that wrote nothing deletes its new folder: the lock may be on a deleted folder.
            if folder.is_dir() and os.path.samestat(os.fstat(descriptor), folder.stat()):
                self._descriptor = descriptor
                return self
            os.close(descriptor)

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        """Delete empty folders, and unlock."""
        _remove_empty(self._made)
        os.close(self._descriptor)

    def check(self) -> None:
        """Do nothing: the kernel keeps the lock."""

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise TableError(
                f"another run is writing {self._folder}: wait until it has ended, or give another "
                "TABLE"
            ) from error
        except OSError as error:
            os.close(descriptor)
            _remove_empty(self._made)
            raise TableError(
                f"cannot lock {self._folder} ({error.strerror or error}): its file system does not "
                "support locks, or has none left; give a TABLE on another one"
            ) from error


def _remove_empty(folders: Iterable[Path]) -> None:
    """Delete nested folders from the innermost on, up to the first that is not empty."""
    with suppress(OSError):
        for folder in filter(Path.exists, folders):
            folder.rmdir()
