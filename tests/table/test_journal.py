"""Moving files: after any interruption, each row ends up in the table exactly once."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pomona.errors import RunError
from pomona.table.hold import FolderLock, _remove_leftovers
from pomona.table.journal import PutAway, Swap, recover
from pomona.table.store import LocalStore
from stores import CopyingStore, Killed, RenamingStore, kill_after

KINDS = [RenamingStore, CopyingStore]
FOREVER = 10**6


def rows(folder: Path) -> Counter[str]:
    """The lines of the part files, each of which represents a row."""
    parts = folder.glob("*.parquet")
    return Counter(line for part in parts for line in part.read_text().splitlines())


def write(folder: Path, name: str, content: Iterable[str]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.parquet").write_text("".join(f"{row}\n" for row in content))
    return f"{name}.parquet"


def steps_of(kind: type[RenamingStore], act: object, prepare: object) -> int:
    """How many steps an action takes."""
    taken: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        store = kind(Path(folder), lambda: taken.append(1))
        prepare(Path(folder))  # type: ignore[operator]
        act(store)  # type: ignore[operator]
    return len(taken)


def recovered(kind: type[RenamingStore], folder: Path, cut_off_after: int) -> None:
    """The table after the next writers, the first of which is killed as well."""
    for steps in (cut_off_after, FOREVER):
        store = kind(folder, kill_after(steps))
        try:
            recover(store)
            _remove_leftovers(store, FolderLock(folder))
        except Killed:
            continue


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), max_size=4),
    st.integers(0, 3),
    st.integers(0, 30),
    st.integers(0, 30),
)
def test_a_swap_interrupted_anywhere_is_completed_or_never_started(
    kind: type[RenamingStore], old: list[list[str]], new: int, kill: int, kill_again: int
) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        place = "_staging-1/swap-1"
        (folder / place).mkdir(parents=True)
        names = [write(folder, f"old-{n}", content) for n, content in enumerate(old)]
        before = rows(folder)
        lines = [line for content in old for line in content]
        after = lines if new else []
        copies = [write(folder / place, f"new-{n}", after[n::new]) for n in range(new)]
        try:
            Swap(names, copies).do(kind(folder, kill_after(kill)), place)
        except Killed:
            recovered(kind, folder, kill_again)
            assert rows(folder) in (before, Counter(after))
        else:
            assert rows(folder) == Counter(after)
        _remove_leftovers(kind(folder, kill_after(FOREVER)), FolderLock(folder))
        assert all(path.suffix == ".parquet" for path in folder.iterdir())


def test_a_part_file_is_replaced_by_one_of_the_same_name_in_one_step(tmp_path: Path) -> None:
    name = write(tmp_path, "part", "ab")
    write(tmp_path / "_staging-1", "part", "b")
    Swap([name], [name]).do(RenamingStore(tmp_path, kill_after(1)), "_staging-1")
    assert rows(tmp_path) == {"b": 1}


def test_new_part_files_are_synced_to_disk_before_the_old_ones_are_deleted(tmp_path: Path) -> None:
    steps: list[str] = []

    class Recording(LocalStore):
        def sync(self, names: Iterable[str]) -> None:
            steps.extend(f"sync {name}" for name in names)

        def write(self, name: str, content: bytes) -> None:
            steps.append(f"write {name}")
            super().write(name, content)

        def delete(self, names: Iterable[str]) -> None:
            names = list(names)
            steps.extend(f"delete {name}" for name in names)
            super().delete(names)

    old = [write(tmp_path, name, "a") for name in ("old-1", "old-2")]
    new = [write(tmp_path / "_staging-1", "new", "aa")]
    Swap(old, new).do(Recording(tmp_path), "_staging-1")
    assert steps == [
        "sync _staging-1/new.parquet",
        "write _staging-1/swap.json",
        "delete old-1.parquet",
        "delete old-2.parquet",
        "delete _staging-1/swap.json",
    ]


def test_a_swap_whose_new_part_files_disappeared_changes_nothing(tmp_path: Path) -> None:
    old = [write(tmp_path, "old", "ab")]
    (tmp_path / "_staging-1").mkdir()
    with pytest.raises(RunError, match="_staging-1/new.parquet disappeared"):
        Swap(old, ["new.parquet"]).do(LocalStore(tmp_path), "_staging-1")
    assert rows(tmp_path) == {"a": 1, "b": 1}
    assert not list((tmp_path / "_staging-1").iterdir())


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), max_size=3),
    st.booleans(),
    st.integers(0, 30),
    st.integers(0, 30),
)
def test_set_aside_rows_come_back_unless_new_rows_replaced_them(
    old: list[list[str]], others_come: bool, kill: int, kill_again: int
) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        (folder / "_staging-1").mkdir()
        for n, content in enumerate(old):
            write(folder, f"old-{n}", content)
        before = rows(folder)
        store = RenamingStore(folder, kill_after(kill))
        has_others = False
        try:
            PutAway.do(store, "_staging-1")
            if others_come:
                write(folder, "other", ["new"])
                has_others = True
        except Killed:
            pass
        recovered(RenamingStore, folder, kill_again)
        assert rows(folder) == ({"new": 1} if has_others else before)


@pytest.mark.parametrize("kind", KINDS)
def test_these_tests_interrupt_every_step(kind: type[RenamingStore]) -> None:
    def prepare(folder: Path) -> None:
        for n in range(3):
            write(folder, f"old-{n}", "a")
        for n in range(2):
            write(folder / "_staging-1", f"new-{n}", "a")

    swap = Swap([f"old-{n}.parquet" for n in range(3)], ["new-0.parquet", "new-1.parquet"])
    result = steps_of(kind, lambda store: swap.do(store, "_staging-1"), prepare)
    assert 7 <= result <= 30
