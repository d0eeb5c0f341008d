"""Delta tables as the package deltalake sees them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pomona.schema import FEATURE_SCHEMA


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
