"""Bytes of files -> network input: one after the other, or several in advance by threads.

A network on a CPU core shares the core with its decoder, so threads gain nothing. A network on a
GPU computes many images at once, while threads decode the next ones.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pomona.encoder.preprocessing import Preprocessing
from pomona.errors import ImageError
from pomona.worker.decode import MAX_PIXELS, decode
from pomona.worker.pillow_limits import quiet_codecs
from pomona.worker.quality import measure
from pomona.worker.resize import network_pixels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pomona.encoder.preprocessing import Pixels

__all__ = ["EXACT", "DecodeOptions", "File", "Preparer", "Row", "Seen", "prefetch"]

File = tuple[Any, str | None]
"""A file's bytes as an Arrow buffer; or None, and the reason why it could not be read."""

Prepared = tuple["Row", "Pixels | None"]
"""A row, and the pixels of its image; None if it failed, or has its vector already."""


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How images become pixels.

    Attributes:
        max_pixels: images with more pixels get the status `too_large` and are not decoded.
        fast: reduce large JPEGs while decoding them; features differ slightly.
    """

    max_pixels: int = MAX_PIXELS
    fast: bool = False

    def provenance(self) -> dict[str, str]:
        """Return the provenance keys that describe the decoding."""
        return {"decode": "fast" if self.fast else "exact"}


EXACT = DecodeOptions()
"""Decode every pixel, as for the reference features."""


@dataclass(slots=True)
class Row:
    """The row of one image, without the columns from the listing.

    Attributes:
        vector: (D,) float32, once it is computed; None if `status` is not `ok`.
    """

    status: str = "ok"
    error: str | None = None
    width: int | None = None
    height: int | None = None
    format: str | None = None
    sha256: str | None = None
    brightness: float | None = None
    sharpness: float | None = None
    vector: NDArray[np.float32] | None = None


class Seen:
    """The last images of a worker, by the digest of their bytes.

    The same bytes under another name need a lookup instead of a decoding and a prediction. Some
    thousand images (16 MB) are kept: copies are mostly close to each other, and memory is bounded.
    """

    _BYTES = 16 * 2**20
    _ROW_BYTES = 1024  # a row in Python, its strings and its place, roughly

    def __init__(self) -> None:
        self._known: OrderedDict[str, Row] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, digest: str) -> Row | None:
        """Return the row, with its vector if its status is `ok`; None for new bytes."""
        with self._lock:
            found = self._known.get(digest)
            if found:
                self._known.move_to_end(digest)
            return found

    def add(self, row: Row) -> None:
        """Remember an image; its vector is copied."""
        size = self._ROW_BYTES + (0 if row.vector is None else row.vector.nbytes)
        if row.sha256 is None or size > self._BYTES:
            return
        kept = row if row.vector is None else replace(row, vector=row.vector.copy())
        with self._lock:
            while len(self._known) >= self._BYTES // size:
                self._known.popitem(last=False)
            self._known[row.sha256] = kept


@dataclass(frozen=True, slots=True)
class Preparer:
    """Turns files into the network's input, one after the other.

    Attributes:
        spec: the network's preprocessing.
        options: how images become pixels.
        seen: images that were computed before.
    """

    spec: Preprocessing
    options: DecodeOptions
    seen: Seen

    def __call__(self, file: File) -> Prepared:
        """Decode and resize a file; any thread may call this."""
        buffer, reason = file
        if buffer is None:
            return Row("unreadable", reason or "no content"), None
        digest = hashlib.sha256(buffer).hexdigest()
        if seen_row := self.seen.find(digest):
            return seen_row, None
        row, spec, options = Row(sha256=digest), self.spec, self.options
        draft = spec.draft_size if options.fast else None
        pixels = None
        try:
            picture = decode(memoryview(buffer), max_pixels=options.max_pixels, draft=draft)
            quality = measure(picture.image)
            pixels = network_pixels(picture, spec)
            row.width, row.height, row.format = picture.width, picture.height, picture.format
            row.brightness, row.sharpness = quality
        except ImageError as error:
            # Keep no reference to the error: its traceback refers to this frame, and so to the
            # file's bytes and the pixels, until the cyclic garbage collector runs.
            row.status, row.error = error.status, str(error)
            row.width, row.height, row.format = error.width, error.height, error.format
        except MemoryError:
            row.status, row.error = "too_large", "takes more memory than this process has"
        if pixels is None:
            self.seen.add(row)  # a failed row is complete
        return row, pixels


def prefetch(
    prepare: Preparer, files: Iterable[File], threads: int, at_once: int
) -> Iterator[Prepared]:
    """Yield the results of `map(prepare, files)` in order; threads compute them in advance.

    Args:
        prepare: the function that the threads call.
        files: read only while fewer than `at_once` images wait.
        threads: number of threads.
        at_once: largest number of images that are in progress or not yet consumed.
    """

    def quietly(file: File) -> Prepared:
        with quiet_codecs():
            return prepare(file)

    waiting: deque[Future[Prepared]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for file in files:
            waiting.append(pool.submit(quietly, file))
            if len(waiting) >= at_once:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)  # after an error, the other results are not needed
