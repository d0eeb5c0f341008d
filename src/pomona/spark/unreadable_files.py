"""Files that Spark cannot read although the driver has listed them.

The driver handles a few such files. If there are many, Spark's setup is the cause: the run ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import compress
from typing import TYPE_CHECKING

from pomona.errors import RunError
from pomona.spark.errors import names_a_forbidden_file, names_a_missing_path

if TYPE_CHECKING:
    from pomona.source.image_file import ImageFile
    from pomona.spark.storage.choose import ImageStore

__all__ = ["UnreadableFiles"]

_MANY_FILES, _MANY_SHARE = 100, 0.1  # if there are more, the files are not the cause
_SAMPLE = 16  # number of these files that the driver tries to open
_THREADS = 16  # each checks one file at a time: a store answers in about 50 ms


class UnreadableFiles:
    """The files of a run that Spark cannot read."""

    def __init__(self, images: ImageStore) -> None:
        self._images = images

    def without_cause(self, files: list[ImageFile], error: Exception) -> list[ImageFile]:
        """Return files without those that made Spark fail.

        The result has all files if the error has another cause.
        """
        if not (names_a_missing_path(error) or names_a_forbidden_file(error)):
            return files
        with ThreadPoolExecutor(_THREADS) as threads:
            return list(compress(files, threads.map(self._images.can_be_opened, files)))

    def check(self, unseen: Sequence[ImageFile], files: int) -> None:
        """Check that files without a row are bad themselves, if there are many.

        Args:
            unseen: files for which Spark wrote no row.
            files: number of files that Spark had to read.

        Raises:
            RunError: the driver can read some of them, so the workers do not see the storage.
        """
        if not _are_many(len(unseen), files):
            return
        sample = unseen[:: -(-len(unseen) // _SAMPLE)]
        if any(map(self._images.can_be_opened, sample)):
            raise RunError(
                f"Spark's workers could not read {len(unseen)} of {files} files that the driver "
                f"can read: is `source` on storage that all machines share?"
            )


def _are_many(unreadable: int, files: int) -> bool:
    return unreadable > max(_MANY_FILES, _MANY_SHARE * files)
