"""Reading images at URIs: many at once, ahead of the network."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from pomona.errors import RunError
from pomona.io.remote import Cause, RemotePlace, StorageError, repeated
from pomona.messages import one_line
from pomona.source.image_file import MAX_FILE_BYTES, Content, ImageFile, read_content
from pomona.source.read_ahead import read_ahead

__all__ = ["RemoteReader"]


@dataclass(frozen=True, slots=True)
class RemoteReader:
    """Reads images in threads, and yields them in order.

    Attributes:
        place: where they are.
        was_listed: whether the place allowed a listing: if it refuses one now, the credentials have
            expired. A place whose files were named may never have allowed it.
        images_at_once: number of images that a worker gets together: reading ahead stops at the
            last one.
    """

    place: RemotePlace
    was_listed: bool = True
    images_at_once: int = 256

    def read(self, files: Sequence[ImageFile]) -> Iterator[Content]:
        """Yield the content of each file.

        A file that is missing or forbidden gives a reason.

        Raises:
            RunError: the storage fails for all files: it is too busy, or the credentials expired.
        """
        return read_ahead(files, self.content)

    def content(self, file: ImageFile) -> Content:
        """Return the content of one file."""
        if file.path.startswith("/"):  # the known image that shows whether a worker works
            return read_content(file)
        try:
            return repeated(partial(self._read_whole, file), f"read {file.path}")
        except pa.ArrowInvalid as error:
            return None, f"cannot be read: {one_line(error)}"
        except StorageError as failure:
            return None, f"cannot be read: {self.reason(file.path, failure)}"

    def reason(self, uri: str, failure: StorageError) -> str:
        """Return why a file cannot be read.

        Raises:
            RunError: the storage fails for all files.
        """
        if failure.cause is Cause.PASSING:
            raise RunError(
                f"cannot read {uri}: {failure}; rows written so far stay, so run it again"
            ) from failure
        if failure.cause is Cause.MISSING:
            return "it no longer exists"
        self._check_access(uri, failure)
        return str(failure)

    def digest(self, file: ImageFile) -> str | None:
        """Return the SHA-256 of a file's bytes, in hex; None if it cannot be read."""
        content, _ = self.content(file)
        return None if content is None else hashlib.sha256(content).hexdigest()

    def _read_whole(self, file: ImageFile) -> Content:
        with self.place.system().open_input_file(self.place.path(file.path)) as opened:
            size: int = opened.size()
            if size > MAX_FILE_BYTES:
                return None, f"holds {size} bytes: no more than {MAX_FILE_BYTES} are read"
            return opened.read(), None

    def _check_access(self, uri: str, failure: StorageError) -> None:
        """Check that the storage still answers for other files.

        The answer to a read has no reason. The answer to a listing has one, and the source was
        listed, so it is allowed. A listing of what is below the file finds nothing in one request.

        Raises:
            RunError: it does not: the credentials have expired, for example.
        """
        from pyarrow.fs import FileSelector

        below = FileSelector(self.place.path(uri), allow_not_found=True)
        try:
            repeated(lambda: self.place.system().get_file_info(below), f"list {self.place.top}")
        except StorageError as refusal:
            if refusal.cause is Cause.FORBIDDEN and not self.was_listed:
                return
            raise RunError(
                f"{self.place.top} no longer accepts requests ({refusal}): renew the credentials, "
                "and run it again; rows written so far stay"
            ) from failure
