"""One writer at a time: what a writer leaves behind, and what it may change."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import pytest

from pomona.errors import RunError, TableError
from pomona.table.hold import FolderLock, held
from pomona.table.store import LocalStore


class Lapsing:
    """A lease that another run can take over while this one works."""

    def __init__(self) -> None:
        self.lapsed = False

    def __enter__(self) -> Lapsing:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        """Do nothing: there is nothing to release."""

    def check(self) -> None:
        if self.lapsed:
            raise RunError("another run may be writing")


def test_a_run_removes_its_own_staging_folder_and_those_of_killed_runs(tmp_path: Path) -> None:
    (tmp_path / "_staging-of-the-killed").mkdir()
    with held(LocalStore(tmp_path), FolderLock(tmp_path), lambda: None) as (_, staging):
        assert [path.name for path in tmp_path.iterdir()] == [staging]
        (tmp_path / "_staging-of-an-orphan").mkdir()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ends_in_an_error", [True, False])
def test_a_run_with_a_lapsed_lease_changes_nothing_of_the_run_that_took_over(
    ends_in_an_error: bool, tmp_path: Path
) -> None:
    def work() -> None:
        with held(LocalStore(tmp_path), lease, lambda: None):
            lease.lapsed = True
            staging = tmp_path / "_staging-of-the-next"
            staging.mkdir()
            (staging / "swap.json").write_text('{"old": ["part.parquet"], "new": []}')
            (tmp_path / "part.parquet").touch()
            if ends_in_an_error:
                raise TableError("the storage does not answer")

    lease = Lapsing()
    if ends_in_an_error:
        with pytest.raises(TableError, match="does not answer"):
            work()
    else:
        work()
    assert (tmp_path / "_staging-of-the-next" / "swap.json").exists()
    assert (tmp_path / "part.parquet").exists()


def test_a_lease_that_lapses_during_the_check_removes_nothing(tmp_path: Path) -> None:
    lease = Lapsing()
    (tmp_path / "_staging-of-the-next").mkdir()

    def check() -> None:
        lease.lapsed = True

    with pytest.raises(RunError), held(LocalStore(tmp_path), lease, check):
        pass
    assert (tmp_path / "_staging-of-the-next").exists()
