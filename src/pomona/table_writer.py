"""Writing a feature table: one writer at a time, whole part files only, nothing half-done left."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from pomona.errors import TableError
from pomona.part_files import copy_rows, groups_to_merge, part_name
from pomona.row_index import Doomed, RowIndex
from pomona.table import (
    STAGING,
    FeatureTable,
    check_same_maker,
    is_table_file,
    part_provenance,
)

__all__ = ["TableWriter", "check_writable", "writing"]

_INTENTION = "swap.json"
_REPLACED = "replaced"  # where the rows wait that --overwrite puts away


@dataclass(frozen=True, slots=True)
class TableWriter:
    """A feature table held for one run.

    Attributes:
        table: itself.
        staging: a folder in it where part files are written before they join it.
    """

    table: FeatureTable
    staging: Path

    def commit(self, staged: Path) -> None:
        """Rename a whole part file into the table: from here on its rows count.

        It is on the disk by then, whoever wrote it. Were the rename there first when a machine goes
        down, the table would have an empty file.
        """
        _sync(staged)
        staged.replace(self.table.folder / staged.name)
        _sync(self.table.folder)

    def index(self) -> RowIndex:
        """What has a row, and from which state of its file."""
        return self.table.index()

    def paths_of(self, rows: Doomed) -> list[str]:
        """The paths of some rows."""
        return self.table.paths_of(rows)

    def remove_rows(self, rows: Doomed) -> None:
        """Take rows out: a copy without them takes the place of each part file that has some."""
        for name, keys in rows.items():
            part, copy = self.table.folder / name, self.staging / name
            if copy_rows([part], copy, without=keys):
                self.commit(copy)
            else:
                part.unlink()
                _sync(self.table.folder)

    def merge_small_parts(self) -> None:
        """Merge part files where there are many small ones.

        Between the removal of the small ones and the renaming of the merged one, milliseconds, a
        reader misses their rows; it never sees them twice. What is cut off there, the next writer
        completes.
        """
        by_maker: dict[str, dict[Path, int]] = {}
        for part in self.table.parts():
            maker = json.dumps(part_provenance(part), sort_keys=True)
            by_maker.setdefault(maker, {})[part] = part.stat().st_size
        for sizes in by_maker.values():
            for group in groups_to_merge(sizes):
                merged = self.staging / part_name()
                copy_rows(group, merged)
                _Swap([part.name for part in group], merged.name).do(
                    self.table.folder, self.staging
                )


@dataclass(frozen=True, slots=True)
class _Swap:
    """Part files that give way to one that has all of their rows.

    The intention is written down first, so that a swap which was cut off can be told from a merged
    file that was never finished.
    """

    old: list[str]
    new: str

    def do(self, folder: Path, staging: Path) -> None:
        """Write the intention down, and carry it out."""
        _sync(staging / self.new)
        written = staging / f"{_INTENTION}.partial"
        written.write_text(json.dumps(asdict(self)))
        _sync(written)
        written.replace(staging / _INTENTION)
        _sync(staging)
        self.finish(folder, staging)

    def finish(self, folder: Path, staging: Path) -> None:
        """Carry it out, from wherever it was cut off."""
        if (staging / self.new).exists():
            for name in self.old:
                (folder / name).unlink(missing_ok=True)
            (staging / self.new).replace(folder / self.new)
            _sync(folder)
        (staging / _INTENTION).unlink()


def check_writable(table: FeatureTable, provenance: Mapping[str, str], *, overwrite: bool) -> None:
    """Find out whether `writing` would take the table, but for another run that holds it.

    Raises:
        TableError: the folder is no table, cannot be written, or has rows of another encoder.
    """
    table.check()
    if table.exists() and not overwrite:
        check_same_maker(table.folder, table.provenance(), provenance)


@contextmanager
def writing(
    table: FeatureTable, provenance: Mapping[str, str], *, overwrite: bool
) -> Iterator[TableWriter]:
    """Hold a table for one writer, whose staging folder is gone afterwards.

    The lock is the kernel's, on the folder itself: it ends with the process that holds it, whatever
    ends that, and leaves no file behind. A folder that this run made and wrote nothing into is
    removed again.

    Args:
        table: present or yet to be written.
        provenance: of the encoder whose rows are to join.
        overwrite: drop the rows that the table has; they come back if none take their place.

    Raises:
        TableError: the folder is no table, cannot be written, has rows of another encoder, or
            another run is writing it.
    """
    folder = table.folder
    table.check()
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise TableError(f"cannot make {folder}: {error.strerror or error}") from error
    try:
        _lock(descriptor, folder)
        _take_up(table)
        check_writable(table, provenance, overwrite=overwrite)
        _remove_stale_staging(folder)
        staging = folder / f"{STAGING}{uuid.uuid4().hex[:12]}"
        staging.mkdir()
        replaced = staging / _REPLACED
        try:
            if overwrite:
                _move(folder, replaced)
            yield TableWriter(table, staging)
        finally:
            if overwrite and not table.exists():  # nothing has come in its place
                _move(replaced, folder)
            # And what orphans of a killed run have written since this one began.
            _remove_stale_staging(folder)
    finally:
        if made and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        os.close(descriptor)


def _move(source: Path, target: Path) -> None:
    """Move a table's files, and only those, from folder to folder."""
    target.mkdir(exist_ok=True)
    for path in list(source.iterdir()):
        if path.is_file() and is_table_file(path):
            path.replace(target / path.name)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise TableError(
            f"another run is writing {folder}: wait until it has ended, or give another TABLE"
        ) from error


def _sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that does not do this for folders
            raise
    finally:
        os.close(descriptor)


def _take_up(table: FeatureTable) -> None:
    """Complete what a writer that was killed had begun, or give back what it had put away."""
    for intention in table.folder.glob(f"{STAGING}*/{_INTENTION}"):
        _Swap(**json.loads(intention.read_text())).finish(table.folder, intention.parent)
    for replaced in table.folder.glob(f"{STAGING}*/{_REPLACED}"):
        if not table.exists():
            _move(replaced, table.folder)


def _remove_stale_staging(folder: Path) -> None:
    for name in (f"{STAGING}*", "_temporary"):  # ours, and Spark's
        for left in folder.glob(name):
            shutil.rmtree(left, ignore_errors=True)
