"""Delta tables as the package deltalake sees them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pomona.errors import RunError
from pomona.job.summary import Summary
from pomona.schema import FEATURE_SCHEMA
from pomona.table.delta_store import DeltaStore


def by_deltalake(table: Path) -> pa.Table:
    """The rows that the log counts, read by Arrow."""
    from deltalake import DeltaTable

    actions = pa.table(DeltaTable(table).get_add_actions()).to_pylist()
    files = [table / action["path"] for action in actions]
    rows = pa.concat_tables(pq.read_table(file).cast(FEATURE_SCHEMA) for file in files)
    assert rows.num_rows == sum(action["num_records"] for action in actions)
    return rows.sort_by("path")


def version(table: Path) -> int:
    """The number of the newest version."""
    from deltalake import DeltaTable

    return int(DeltaTable(table).version())


def rows_of_versions(table: Path) -> list[int]:
    """The number of rows of each version, oldest first."""
    from deltalake import DeltaTable

    versions = (DeltaTable(table, version=number) for number in range(version(table) + 1))
    return [sum(pa.table(v.get_add_actions())["num_records"].to_pylist()) for v in versions]


def check_that_uncommitted_part_files_do_not_count(
    extract: Callable[..., Summary],
    table: Path,
    monkeypatch: pytest.MonkeyPatch,
    **again: object,
) -> None:
    """Stop a run between the move of its part files and their commit, and continue with another.

    Args:
        extract: a run over 14 files into a table.
        table: the new table.
        monkeypatch: patches the commit.
        again: more arguments of the second run.
    """

    def killed(*_: object) -> None:
        raise RunError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(DeltaStore, "_commit", killed)
        with pytest.raises(RunError, match="killed"):
            extract(table, table_format="delta")
    assert list(table.glob("*.parquet"))
    summary = extract(table, **again)
    assert summary.files == summary.ok + summary.failed == 14
    assert by_deltalake(table).num_rows == 14
