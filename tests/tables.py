"""Reading feature tables in tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from pomona.schema import FEATURE_SCHEMA
from pomona.table import FeatureTable


def read(folder: Path) -> pa.Table:
    """All rows, in the order of their paths."""
    batches = list(FeatureTable(folder).batches())
    return pa.Table.from_batches(batches, FEATURE_SCHEMA).sort_by("path")


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    """Rows by the name of their file."""
    return {row["path"].rpartition("/")[2]: row for row in read(folder).to_pylist()}
