"""Pillow's settings for the whole process and its messages, changed only while images are decoded.

Pillow keeps its limits in module globals and lets its codecs print. A library must not leave either
changed: the last thread that leaves restores them.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from PIL import Image, ImageFile

__all__ = ["quiet_codecs", "strict_limits"]


@contextmanager
def strict_limits(max_pixels: int) -> Iterator[None]:
    """Make Pillow raise if a frame has more pixels than this, or if data is missing."""
    with _PILLOW_SETTINGS:
        outer = getattr(_THREAD, "max_pixels", None)
        _THREAD.max_pixels = max_pixels
        try:
            yield
        finally:
            del _THREAD.max_pixels
            if outer is not None:
                _THREAD.max_pixels = outer


@contextmanager
def quiet_codecs() -> Iterator[None]:
    """Suppress messages of the codecs while at least one thread is inside.

    Damaged images make libtiff print to file descriptor 2, and make Pillow warn and log. The errors
    of `decode` have the reason already. If warnings are errors, a warning outside this context
    fails its image. Put it around a batch, not around each image: it costs a few system calls.
    Other output of the process to descriptor 2 is lost in the meantime.
    """
    with _SILENCE:
        yield


class _Limit(int):
    """`Image.MAX_IMAGE_PIXELS` while images are decoded: each thread sees its own limit.

    Pillow warns above that number and raises above twice that number. Pillow has to check it if
    only a plugin knows the size before it allocates: for a PNG inside an ICO, or a frame of a GIF.
    A thread inside `decode` gets an error above its `max_pixels`, and never a warning; all others
    keep the previous limit.
    """

    def __rmul__(self, factor: int) -> int:  # in Pillow: pixels > 2 * MAX_IMAGE_PIXELS
        return getattr(_THREAD, "max_pixels", factor * int(self))

    def __lt__(self, pixels: int) -> bool:  # in Pillow: pixels > MAX_IMAGE_PIXELS
        return not hasattr(_THREAD, "max_pixels") and int(self) < pixels


_THREAD = threading.local()


class _Shared:
    """A context that threads share: the first thread enters it, the last thread leaves it."""

    def __init__(self, make: Callable[[], AbstractContextManager[None]]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._inside = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._context = self._make()
                self._context.__enter__()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._context.__exit__(None, None, None)


@contextmanager
def _pillow_settings() -> Iterator[None]:
    """Set Pillow's two settings for the whole process to those of `decode`, and restore them."""
    limit, truncated = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    Image.MAX_IMAGE_PIXELS = _Limit(sys.maxsize if limit is None else min(limit, sys.maxsize))
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # else missing data becomes grey without an error
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = limit, truncated


@contextmanager
def _silence() -> Iterator[None]:
    """Mute Pillow's warnings and logs, and file descriptor 2, where libtiff prints."""
    log, handler = logging.getLogger("PIL"), logging.NullHandler()
    with warnings.catch_warnings(), _muted(2):
        warnings.filterwarnings("ignore", module=r"PIL\b")
        log.addHandler(handler)  # with any handler, logging's last resort stays silent
        try:
            yield
        finally:
            log.removeHandler(handler)


@contextmanager
def _muted(descriptor: int) -> Iterator[None]:
    """Discard output to the descriptor; leave it alone if it is closed."""
    try:
        kept = os.dup(descriptor)
    except OSError:
        yield
        return
    try:
        with open(os.devnull, "wb") as sink:  # noqa: PTH123
            os.dup2(sink.fileno(), descriptor)
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)


_PILLOW_SETTINGS = _Shared(_pillow_settings)
_SILENCE = _Shared(_silence)
