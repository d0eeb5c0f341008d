"""Writing a feature table: one writer at a time, whole part files only, nothing half-done left."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pomona.errors import TableError
from pomona.schema import schema_with_provenance
from pomona.table.feature_table import STAGING, FeatureTable, check_same_maker
from pomona.table.part_file import (
    PartWriter,
    copy_rows,
    groups_to_merge,
    part_name,
    remove_checksum,
    remove_part,
)
from pomona.table.recovery import Overwrite, Replacement, recover, sync
from pomona.table.row_encoders import part_provenance
from pomona.table.row_index import NewLabels, RowsToDelete

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["TableWriter", "check_writable", "writing"]


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
        sync(staged)
        staged.replace(self.table.folder / staged.name)
        sync(self.table.folder)

    def append_batches(
        self, batches: Iterable[pa.RecordBatch], provenance: Mapping[str, str]
    ) -> None:
        """Write rows as a part file of their own, and commit it."""
        part = PartWriter(self.staging / part_name(), schema_with_provenance(provenance))
        for batch in batches:
            part.write(batch)
        part.close()
        self.commit(part.path)

    def delete_rows(self, rows: RowsToDelete) -> None:
        """Take rows out: a copy without them takes the place of each part file that has some."""
        for name, keys in rows.items():
            part, copy = self.table.folder / name, self.staging / name
            if copy_rows([part], copy, without=keys):
                remove_checksum(part)
                self.commit(copy)
            else:
                remove_part(part)
                sync(self.table.folder)

    def relabel(self, labels: NewLabels) -> None:
        """Change labels: a copy with the new ones takes the place of each part file.

        A kill leaves a part file with all of its old labels or with all of its new ones.
        """
        for name, found in labels.items():
            part, copy = self.table.folder / name, self.staging / name
            if part.exists() and copy_rows([part], copy, labels=found):
                remove_checksum(part)
                self.commit(copy)

    def compact(self) -> None:
        """Merge part files where there are many small ones.

        Between the removal of the small ones and the renaming of the merged one, milliseconds, a
        reader misses their rows; it never sees them twice. What is cut off there, the next writer
        completes.
        """
        every = {part: part.stat().st_size for part in self.table.parts()}
        if not groups_to_merge(every):
            return  # and no footer was read
        by_maker: dict[str, dict[Path, int]] = {}
        for part, size in every.items():
            maker = json.dumps(part_provenance(part), sort_keys=True)
            by_maker.setdefault(maker, {})[part] = size
        for sizes in by_maker.values():
            for group in groups_to_merge(sizes):
                merged = self.staging / part_name()
                copy_rows(group, merged)
                swap = Replacement([part.name for part in group], [merged.name])
                swap.do(self.table.folder, self.staging)


def check_writable(table: FeatureTable, provenance: Mapping[str, str], *, overwrite: bool) -> None:
    """Find out whether `writing` would take the table, but for another run that holds it.

    Raises:
        TableError: the folder is no table, cannot be written, or has rows of another encoder.
    """
    table.check_folder()
    if table.exists():
        found = table.provenance()
        if not overwrite:
            check_same_maker(table.folder, found, provenance)
            table.check_continuable(found)


@contextmanager
def writing(
    table: FeatureTable, provenance: Mapping[str, str], *, overwrite: bool
) -> Iterator[TableWriter]:
    """Hold a table for one writer, whose staging folder is gone afterwards.

    The lock is the kernel's, on the folder itself: it ends with the process that holds it, whatever
    ends that, and leaves no file behind. Folders that this run made and wrote nothing into are
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
    table.check_folder()
    made = [path for path in (folder, *folder.absolute().parents) if not path.exists()]
    descriptor = _hold(folder, made)
    try:
        recover(table)
        check_writable(table, provenance, overwrite=overwrite)
        _remove_stale_staging(folder)
        staging = folder / f"{STAGING}{uuid.uuid4().hex[:12]}"
        staging.mkdir()
        try:
            if overwrite:
                Overwrite.do(folder, staging)
            yield TableWriter(table, staging)
        finally:
            recover(table)
            # And what orphans of a killed run have written since this one began.
            _remove_stale_staging(folder)
    finally:
        _remove_empty(made)
        os.close(descriptor)


def _hold(folder: Path, made: Iterable[Path]) -> int:
    """Make the folder if need be, and lock it; gives the descriptor that holds the lock."""
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY)
        except OSError as error:
            _remove_empty(made)
            raise TableError(f"cannot make {folder}: {error.strerror or error}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise TableError(
                f"another run is writing {folder}: wait until it has ended, or give another TABLE"
            ) from error
        except OSError as error:
            os.close(descriptor)
            _remove_empty(made)
            raise TableError(
                f"cannot lock {folder} ({error.strerror or error}): its file system has no locks, "
                "or is out of them; give a TABLE on another one"
            ) from error
        # A run that wrote nothing removes the folder that it made: the lock may be on that one.
        if folder.is_dir() and os.path.samestat(os.fstat(descriptor), folder.stat()):
            return descriptor
        os.close(descriptor)


def _remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders, each below the next, up to the first that holds something."""
    with suppress(OSError):
        for folder in filter(Path.exists, folders):
            folder.rmdir()


def _remove_stale_staging(folder: Path) -> None:
    for name in (f"{STAGING}*", "_temporary"):  # ours, and Spark's
        for left in folder.glob(name):
            shutil.rmtree(left, ignore_errors=True)
