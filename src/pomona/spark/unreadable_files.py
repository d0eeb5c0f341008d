"""Files that Spark cannot read although the driver has listed them.

The driver handles a few such files. If there are many, Spark's setup is the cause: the run ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import compress
from typing import TYPE_CHECKING

from pomona.errors import RunError
from pomona.spark.errors import NAMES_IN_UTF8, names_a_forbidden_file, names_a_missing_path

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
        self._only_ascii = False  # whether Spark's JVM finds only such names

    def readable(self, files: list[ImageFile]) -> list[ImageFile]:
        """Return the files whose names Spark's JVM can read, as far as known.

        Raises:
            RunError: there are too many other files for the driver.
        """
        if not self._only_ascii:
            return files
        named = [file for file in files if file.path.isascii()]
        if _are_many(len(files) - len(named), len(files)):
            raise RunError(
                f"Spark does not find {len(files) - len(named)} of {len(files)} files that exist: "
                f"{NAMES_IN_UTF8}"
            )
        return named

    def without_cause(self, files: list[ImageFile], error: Exception) -> list[ImageFile]:
        """Return files without those that made Spark fail.

        The result has all files if the error has another cause.

        Raises:
            RunError: there are too many such files for the driver.
        """
        if names_a_missing_path(error):
            is_good = self._images.exists
        elif names_a_forbidden_file(error):
            is_good = self._images.can_be_opened
        else:
            return files
        with ThreadPoolExecutor(_THREADS) as threads:
            good = list(compress(files, threads.map(is_good, files)))
        if len(good) == len(files) and names_a_missing_path(error):
            self._only_ascii = True
            good = self.readable(files)
        return good

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
            advice = "" if any(file.path.isascii() for file in unseen) else f" Or {NAMES_IN_UTF8}"
            raise RunError(
                f"Spark's workers could not read {len(unseen)} of {files} files that the driver "
                f"can read: is `source` on storage that all machines share?{advice}"
            )


def _are_many(unreadable: int, files: int) -> bool:
    return unreadable > max(_MANY_FILES, _MANY_SHARE * files)
