"""Rows of a table -> a database: only those that are new or have changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.errors import RunError, TableError, UsageError
from pomona.exports.known import Known, keys_of
from pomona.exports.rows import Outgoing
from pomona.exports.target import LISTED, Database
from pomona.io.location import without_password
from pomona.messages import one_line
from pomona.progress import Progress

__all__ = ["Counts", "send_rows", "talking"]

_DELETED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Counts:
    """How many rows of a target were touched; see `pomona.exports.export.Exported`."""

    sent: int = 0
    unchanged: int = 0
    others: int = 0
    deleted: int = 0


def send_rows(
    target: Database, source: Outgoing, progress: Progress, *, is_new: bool, prune: bool
) -> Counts:
    """Send a database the rows that it does not have, or has in another state.

    Args:
        target: the database, after `about`.
        source: the rows.
        progress: called with the progress.
        is_new: whether to create the table, in place of one with other vectors.
        prune: whether to delete the other rows of the database.

    Raises:
        TableError: a path has several rows, or a row has no valid vector.
        RunError: the database failed, or the table changed.
    """
    with talking(target):
        known = Known(() if is_new else target.listed())
    keys, differs = _compared(source, known)
    if is_new:
        with talking(target):
            target.create(source.provenance)
    sent = 0
    for rows in source.batches(progress) if differs else ():
        missing, changed = known.compare(rows.columns)
        with talking(target):
            if missing.any():
                target.insert(rows.where(missing))
            if changed.any():
                target.update(rows.where(changed))
        sent += int((missing | changed).sum())
    others = known.others(keys)
    deleted = 0
    with talking(target):
        if prune and len(others):
            deleted = _delete(target, others)
        if sent or deleted or is_new:
            target.commit()
    return Counts(sent, source.vectors.rows - sent, len(others) - deleted, deleted)


def _compared(source: Outgoing, known: Known) -> tuple[NDArray[np.bytes_], bool]:
    """Return the keys of the table's rows, and whether any is to be sent; vectors are not read.

    Raises:
        TableError: a path has two rows, so it does not say which row is meant.
    """
    found, differs = [keys_of(pa.array([], pa.string()))], False
    for rows in source.vectors.records([*LISTED.names, "status"]):
        found.append(keys_of(rows["path"]))
        differs = differs or any(mask.any() for mask in known.compare(rows))
    keys = np.concatenate(found)
    if (twice := len(keys) - len(np.unique(keys))) > 0:
        raise TableError(
            f"{source.vectors.table} has several rows for a path ({twice} too many), and a "
            "database finds rows by their paths: export to files"
        )
    return keys, differs


def _delete(target: Database, keys: NDArray[np.bytes_]) -> int:
    """Delete the rows with these keys, and return their number."""
    paths: list[str] = []
    for rows in target.listed():
        found = rows["path"].filter(pa.array(np.isin(keys_of(rows["path"]), keys)))
        paths += found.to_pylist()
    for start in range(0, len(paths), _DELETED_AT_ONCE):
        target.delete(paths[start : start + _DELETED_AT_ONCE])
    return len(paths)


@contextmanager
def talking(target: Database, *, opening: bool = False) -> Iterator[None]:
    """Turn errors of the database's library into one line.

    Raises:
        UsageError: the database could not be opened.
        RunError: it failed later.
    """
    try:
        yield
    except target.errors as error:
        reason = without_password(one_line(error, 500))
        if opening:
            raise UsageError(f"cannot open {target}: {reason}") from error
        kept = "nothing was written" if target.is_atomic else "rows sent so far stay"
        raise RunError(f"{target}: {reason}; {kept}") from error
