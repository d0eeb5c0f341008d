"""The queue of images, shared by the threads that each supervise one worker process."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice, takewhile

from pomona.source.archives.member import stream_of
from pomona.source.image_file import ImageFile
from pomona.source.images import FileReader

__all__ = ["ImageQueue"]

_LISTED_AHEAD = 100_000  # images: about 30 MB; a listing that is this far ahead waits
_LARGEST_OF_STREAM = 2048  # each worker unpacks a compressed tar file from its beginning
_SMALLEST = 2  # near the end of a run, so that no worker waits for another


class ImageQueue:
    """Hands out chunks of images and takes back those whose process died.

    It is empty only when all images that it handed out are settled. Until then a chunk may be
    returned, so `take` waits.
    """

    def __init__(self, workers: int, largest: int = FileReader.images_at_once) -> None:
        self._workers = workers
        self._largest = largest
        self._waiting: deque[ImageFile] = deque()
        self._suspects: deque[ImageFile] = deque()
        self._unsettled = 0
        self._listed = 0
        self._listing = True
        self._woken = False
        self._stopped = False
        self._changed = threading.Condition()

    def fill(self, files: Iterable[ImageFile]) -> None:
        """Add the listed images, and wait if the listing is far ahead."""
        for file in files:
            with self._changed:
                while len(self._waiting) >= _LISTED_AHEAD and not self._stopped:
                    self._changed.wait()
                if self._stopped:
                    return
                self._waiting.append(file)
                self._listed += 1
                self._changed.notify()
        with self._changed:
            self._listing = False
            self._changed.notify_all()

    @property
    def total(self) -> int | None:
        """The number of listed images; None until the listing has ended."""
        return None if self._listing else self._listed

    def take(self, *, holds_work: bool) -> list[ImageFile] | None:
        """Return the next chunk; a suspect is alone in its chunk.

        Args:
            holds_work: whether the caller still holds unsettled images. If so and the queue is
                empty, it gets an empty chunk: settle first, then call again. A caller that `wake`
                wakes also gets an empty chunk.

        Returns:
            Images; None if all are settled or the run was stopped.
        """
        with self._changed:
            while not self._stopped:
                if self._woken:
                    self._woken = False
                    return []
                if self._suspects:
                    return self._hand_out(self._suspects, 1)
                if self._waiting and (len(self._waiting) >= self._largest or not self._listing):
                    share = len(self._waiting) // (4 * self._workers)
                    count = max(_SMALLEST, min(self._largest, share))
                    return self._hand_out_of_stream(count) or self._hand_out(self._waiting, count)
                if holds_work and not self._listing:
                    return []
                if not self._unsettled and not self._listing:
                    return None
                self._changed.wait()
        return None

    def wake(self) -> None:
        """Give an empty chunk to one caller of `take`, so that it starts its process."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def settle(self, images: int) -> None:
        """Note that the rows of this many images are in the table."""
        with self._changed:
            self._unsettled -= images
            self._changed.notify_all()

    def give_back(self, files: Iterable[ImageFile], suspects: Sequence[ImageFile] = ()) -> None:
        """Take back images whose process died; `suspects` were in progress."""
        blamed = set(map(id, suspects))
        with self._changed:
            for file in files:
                self._unsettled -= 1
                if id(file) in blamed:
                    self._suspects.append(file)
                else:
                    self._waiting.append(file)
            self._changed.notify_all()

    def stop(self) -> None:
        """Hand out no more images."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _hand_out_of_stream(self, count: int) -> list[ImageFile] | None:
        """Hand out many images if they are in one stream; None if the next image is not in one."""
        stream = stream_of(self._waiting[0].place)
        if stream is None:
            return None
        most = max(count, min(_LARGEST_OF_STREAM, len(self._waiting) // self._workers))
        following = islice(self._waiting, most)
        together = takewhile(lambda file: stream_of(file.place) == stream, following)
        return self._hand_out(self._waiting, sum(1 for _ in together))

    def _hand_out(self, files: deque[ImageFile], count: int) -> list[ImageFile]:
        chunk = [files.popleft() for _ in range(min(count, len(files)))]
        self._unsettled += len(chunk)
        self._changed.notify_all()
        return chunk
