"""The lease on a table: one writer at a time on a storage without locks."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import faults
from pomona.errors import RunError, TableError
from pomona.table import lease
from pomona.table.lease import Lease
from pomona.table.store import LocalStore


def marks(folder: Path) -> list[Path]:
    return sorted(folder.glob("_running-*"))


def test_a_second_writer_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    with Lease(LocalStore(tmp_path)) as first:
        with (
            pytest.raises(TableError, match="another run is writing .*wait until it has ended"),
            Lease(LocalStore(tmp_path)),
        ):
            pass
        first.check()
    assert not marks(tmp_path)
    with Lease(LocalStore(tmp_path)):
        pass


def test_the_lease_of_a_killed_run_expires(tmp_path: Path) -> None:
    mark = tmp_path / "_running-of-another"
    mark.touch()
    with pytest.raises(TableError, match="a run that was killed holds it for 60 s"):
        Lease(LocalStore(tmp_path)).__enter__()
    assert marks(tmp_path) == [mark]
    os.utime(mark, (1e9, 1e9))
    with Lease(LocalStore(tmp_path)):
        assert mark not in marks(tmp_path)


def test_of_many_writers_that_start_together_at_most_one_continues(tmp_path: Path) -> None:
    begin, holders, refused = threading.Barrier(4), list[Lease](), list[TableError]()

    def start() -> None:
        held = Lease(LocalStore(tmp_path))
        begin.wait()
        try:
            holders.append(held.__enter__())
        except TableError as error:
            refused.append(error)

    for _ in range(3):
        threads = [threading.Thread(target=start) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(holders) <= 1
        assert len(holders) + len(refused) == 4
        for held in holders:
            held.__exit__(None, None, None)
        holders.clear()
        refused.clear()


def test_removing_a_lease_stops_its_holder(tmp_path: Path) -> None:
    with Lease(LocalStore(tmp_path)) as held:
        held.check()
        (mark,) = marks(tmp_path)
        mark.unlink()
        with pytest.raises(RunError, match="another run may be writing"):
            held.check()


def test_a_lease_is_renewed_again_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_EVERY_S", 0.05)
    real, tried = Lease._make, []

    def make(self: Lease) -> None:
        tried.append(True)
        if len(tried) in {2, 3}:
            raise OSError("the storage does not answer")
        real(self)

    monkeypatch.setattr(Lease, "_make", make)
    with Lease(LocalStore(tmp_path)):
        faults.wait_for(lambda: len(tried) > 4)


@pytest.mark.parametrize("lapse", ["taken away", "too old"])
def test_a_lapsed_lease_is_not_renewed_once_another_run_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lapse: str
) -> None:
    monkeypatch.setattr(lease, "_EVERY_S", 0.05)

    def let_lapse(held: Lease) -> None:  # before the thread that renews it starts
        if lapse == "taken away":
            held._remove()
        else:
            held._made_at -= 100

    monkeypatch.setattr(Lease, "_refuse_others", let_lapse)
    with Lease(LocalStore(tmp_path)) as held:
        held._thread.join(5)
        assert not held._thread.is_alive()
        with pytest.raises(RunError, match="another run may be writing"):
            held.check()


def test_a_lease_that_could_not_be_renewed_for_long_stops_its_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Lease(LocalStore(tmp_path)) as held:
        monkeypatch.setattr(held, "_made_at", held._made_at - 100)
        with pytest.raises(
            RunError, match="last renewed its lease 100 s ago, and it expires after 60"
        ):
            held.check()


def test_a_folder_that_cannot_be_written_is_reported_in_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(TableError, match="cannot write TABLE .*No such file"),
        Lease(LocalStore(tmp_path / "missing")),
    ):
        pass
