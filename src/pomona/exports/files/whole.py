"""A folder that gets its name when it is complete, in place of one of an earlier export."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree

from pomona.errors import UsageError
from pomona.io.location import check_output_here
from pomona.table.feature_table import FeatureTable

__all__ = ["check_only", "folder_to_write", "written_folder"]


def folder_to_write(place: str) -> Path:
    """Return the folder of a target.

    Raises:
        UsageError: it is not on this machine, is a file, cannot be created, or is in a feature
            table.
    """
    folder = check_output_here(Path(place), UsageError)
    above = folder.absolute().parent
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: give the name of a new folder")
    if not above.is_dir():
        raise UsageError(f"{folder}: there is no folder {above}")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UsageError(f"{folder}: no permission to write in {above}")
    for table in (folder, above):
        if FeatureTable(table).is_table():
            raise UsageError(f"{folder} is, or is in, a feature table: write the export elsewhere")
    return folder


def check_only(folder: Path, *names: str) -> None:
    """Check that a folder has only the files of an export: others would be lost.

    Raises:
        UsageError: it has others.
    """
    if folder.is_dir() and (others := {entry.name for entry in folder.iterdir()} - {*names}):
        raise UsageError(
            f"{folder} contains {min(others)!r}, which no export wrote: give a new folder"
        )


@contextmanager
def written_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder to write; it takes the place of the folder if no error occurs.

    Raises:
        UsageError: there was an `OSError`.
    """
    place = Path(os.path.realpath(folder))
    draft, old = (place.with_name(f".{uuid.uuid4().hex}") for _ in range(2))
    try:
        draft.mkdir()
        yield draft
        with suppress(FileNotFoundError):  # there is none yet
            place.rename(old)
        draft.rename(place)
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        rmtree(draft, ignore_errors=True)
        rmtree(old, ignore_errors=True)
