"""Reading images at URIs: many at once, ahead of the network."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial

from pomona.errors import RunError
from pomona.io.remote import Cause, RemotePlace, StorageError, repeated
from pomona.source.image_file import MAX_FILE_BYTES, Content, ImageFile, read_content

__all__ = ["RemoteReader"]

_AT_ONCE = 16  # reads: 320 images a second if each takes two answers of 25 ms
_AHEAD = 64  # images
_AHEAD_BYTES = 64 * 2**20  # of all images that are read and not yet yielded


@dataclass(frozen=True, slots=True)
class RemoteReader:
    """Reads images in threads, and yields them in order.

    Attributes:
        place: where they are.
        images_at_once: number of images that a worker gets together: reading ahead stops at the
            last one.
    """

    place: RemotePlace
    images_at_once: int = 256

    def read(self, files: Sequence[ImageFile]) -> Iterator[Content]:
        """Yield the content of each file.

        A file that is missing or forbidden gives a reason.

        Raises:
            RunError: the storage fails for all files: it is too busy, or the credentials expired.
        """
        left = iter(files)
        waiting: deque[tuple[Future[Content], int]] = deque()
        held = 0

        def read_ahead() -> None:
            nonlocal held
            while len(waiting) < _AHEAD and (held < _AHEAD_BYTES or not waiting):
                file = next(left, None)
                if file is None:
                    return
                waiting.append((_threads().submit(self.content, file), file.size or 0))
                held += file.size or 0

        try:
            read_ahead()
            while waiting:
                future, size = waiting.popleft()
                content = future.result()
                held -= size
                read_ahead()
                yield content
        finally:
            for future, _ in waiting:
                future.cancel()

    def content(self, file: ImageFile) -> Content:
        """Return the content of one file."""
        if file.path.startswith("/"):  # the known image that shows whether a worker works
            return read_content(file)
        if (file.size or 0) > MAX_FILE_BYTES:
            return None, f"holds {file.size} bytes: no more than {MAX_FILE_BYTES} are read"
        try:
            return repeated(partial(self._bytes, file), f"read {file.path}"), None
        except StorageError as failure:
            if failure.cause is Cause.PASSING:
                raise RunError(
                    f"cannot read {file.path}: {failure}; rows written so far stay, so run it again"
                ) from failure
            if failure.cause is Cause.MISSING:
                return None, "cannot be read: it no longer exists"
            self._check_access(file, failure)
            return None, f"cannot be read: {failure}"

    def digest(self, file: ImageFile) -> str | None:
        """Return the SHA-256 of a file's bytes, in hex; None if it cannot be read."""
        content, _ = self.content(file)
        return None if content is None else hashlib.sha256(content).hexdigest()

    def _bytes(self, file: ImageFile) -> bytes:
        with self.place.system().open_input_file(self.place.path(file.path)) as opened:
            content: bytes = opened.read()
        return content

    def _check_access(self, file: ImageFile, failure: StorageError) -> None:
        """Check that the storage still answers for other files.

        The answer to a read has no reason. The answer to a listing has one, and the source was
        listed, so it is allowed. A listing of what is below the file finds nothing in one request.

        Raises:
            RunError: it does not: the credentials have expired, for example.
        """
        from pyarrow.fs import FileSelector

        below = FileSelector(self.place.path(file.path), allow_not_found=True)
        try:
            repeated(lambda: self.place.system().get_file_info(below), f"list {self.place.top}")
        except StorageError as refusal:
            raise RunError(
                f"{self.place.top} no longer accepts requests ({refusal}): renew the credentials, "
                "and run it again; rows written so far stay"
            ) from failure


@cache
def _threads() -> ThreadPoolExecutor:
    """Return the threads that read, for all orders of a process."""
    return ThreadPoolExecutor(_AT_ONCE, "pomona-read")
