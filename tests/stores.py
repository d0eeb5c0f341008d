"""Table stores for tests: the contract of every store, and two that can be killed between steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar

import pytest

from pomona.errors import TableError
from pomona.table.store import LocalStore, Store


class Killed(BaseException):
    """Simulates the end of the process: no handler catches it, and no `finally` may clean up."""


def kill_after(steps: int) -> Callable[[], None]:
    """Return a function to call before each step, which raises `Killed` after `steps` calls."""
    left = [steps]

    def step() -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1

    return step


class RenamingStore(LocalStore):
    """A local store whose steps can be counted."""

    __slots__ = ("step",)

    def __init__(self, folder: Path, step: Callable[[], None]) -> None:
        super().__init__(folder)
        object.__setattr__(self, "step", step)

    def write(self, name: str, content: bytes) -> None:
        self.step()
        super().write(name, content)

    def move(self, names: Iterable[str], source: str, target: str) -> None:
        for name in names:
            self.step()
            super().move([name], source, target)

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            self.step()
            super().delete([name])


class CopyingStore(RenamingStore):
    """A store that moves a file by copying and deleting it in pieces, and may replace a file."""

    __slots__ = ()
    moves_whole: ClassVar[bool] = False

    def write(self, name: str, content: bytes) -> None:
        for end in (0, len(content) // 2, len(content)):
            self.step()
            (self.folder / name).write_bytes(content[:end])

    def move(self, names: Iterable[str], source: str, target: str) -> None:
        for name in names:
            content = (self.folder / source / name).read_bytes()
            self.write(f"{target}/{name}".lstrip("/"), content)
            self.step()
            (self.folder / source / name).unlink()


def check_contract(store: Store) -> None:
    """Check what `pomona.table.store.Store` promises, on an empty store."""
    assert store.entries() == {}
    assert store.entries("_staging-1") == {}
    store.make_place("_staging-1")
    store.write("_staging-1/part-1.parquet", b"one")
    store.write("_staging-1/part-2.parquet", b"two")
    store.write("_staging-1/part-2.parquet", b"second")  # replaces the file
    assert store.read("_staging-1/part-2.parquet") == b"second"
    inner = store.entries("_staging-1")
    assert {name: entry.size for name, entry in inner.items() if name[0] != "."} == {
        "part-1.parquet": 3,
        "part-2.parquet": 6,
    }
    assert all(entry.modified > 1e9 for entry in inner.values())
    store.move(["part-1.parquet", "part-2.parquet"], "_staging-1", "")
    assert {name: entry.is_folder for name, entry in store.entries().items()} in (
        {"part-1.parquet": False, "part-2.parquet": False, "_staging-1": True},
        {"part-1.parquet": False, "part-2.parquet": False},  # no empty folders there
    )
    store.write("_staging-1/part-1.parquet", b"other")
    store.move(["part-1.parquet"], "_staging-1", "")  # replaces another file
    assert store.read("part-1.parquet") == b"other"
    with pytest.raises((OSError, TableError)):
        store.move(["part-3.parquet"], "_staging-1", "")
    store.sync(["part-1.parquet"])
    with pytest.raises(Exception, match="part-3"):
        store.read("part-3.parquet")
    store.delete(["part-1.parquet", "part-3.parquet"])
    store.write("_staging-1/swap-1.json", b"{}")
    store.remove_place("_staging-1")
    store.remove_place("_staging-1")
    assert list(store.entries()) == ["part-2.parquet"]
