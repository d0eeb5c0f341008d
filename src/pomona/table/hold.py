"""Holding a table for one writer: what earlier writers left is completed, nothing stays behind.

A lock of the kernel holds a folder of this machine. A lease holds one on a storage without locks
(`pomona.spark.storage.hadoop.lease`).
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

from pomona.errors import RunError, TableError
from pomona.table.feature_table import STAGING
from pomona.table.journal import recover
from pomona.table.store import Store

__all__ = ["FolderLock", "Hold", "held"]


class Hold(Protocol):
    """What keeps other writers away from a table."""

    def check(self) -> None:
        """Check that it still does, before files change their place.

        Raises:
            RunError: another run may be writing.
        """


@contextmanager
def held(
    store: Store, lock: AbstractContextManager[Hold], check: Callable[[], None]
) -> Iterator[tuple[Hold, str]]:
    """Hold a table for one writer.

    Args:
        store: its files.
        lock: keeps other writers away while it is entered.
        check: raises if the table may not be written. It is called after what a killed writer left
            was completed.

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
            if _still_holds(hold):  # else the folders may be those of another run
                recover(store, hold.check)  # if this fails, the next writer does it
                # And what orphans of a killed run have written since this one began.
                _remove_leftovers(store, hold)


def _still_holds(hold: Hold) -> bool:
    try:
        hold.check()
    except RunError:
        return False
    return True


def _remove_leftovers(store: Store, hold: Hold) -> None:
    for name, entry in store.entries().items():
        # Ours, and Spark's.
        if entry.is_folder and (name.startswith(STAGING) or name == "_temporary"):
            hold.check()
            store.remove_place(name)


class FolderLock:
    """The kernel's lock on a folder of this machine, which is created if need be.

    The lock ends with the process that holds it, also if that is killed, and leaves no file.
    Folders that this object created are removed again if nothing was written into them.
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
                raise TableError(f"cannot make {folder}: {error.strerror or error}") from error
            self._lock(descriptor)
            # A run that wrote nothing removes the folder that it made: the lock may be on that one.
            if folder.is_dir() and os.path.samestat(os.fstat(descriptor), folder.stat()):
                self._descriptor = descriptor
                return self
            os.close(descriptor)

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        """Remove folders that are empty, and unlock."""
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
                f"cannot lock {self._folder} ({error.strerror or error}): its file system has no "
                "locks, or is out of them; give a TABLE on another one"
            ) from error


def _remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders, each below the next, up to the first that holds something."""
    with suppress(OSError):
        for folder in filter(Path.exists, folders):
            folder.rmdir()
