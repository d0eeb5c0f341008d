"""Pillow's settings for the whole process, held while something is decoded, and its noise.

Pillow keeps its limits in module globals and lets its codecs print. A library may not leave either
changed: what is here is put back when the last thread has left.
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
    """Let Pillow raise where a frame has more pixels than this, and where data is missing."""
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
    """Keep the codecs' own noise from the terminal while at least one thread is inside.

    Broken images make libtiff print to file descriptor 2, and Pillow warn and log; `decode` says
    what was wrong anyway. Where warnings are errors, one that is raised outside of this context
    fails its image. Put it around a batch, not around each image: it costs a few system calls. What
    anything else in the process prints to descriptor 2 meanwhile is lost.
    """
    with _SILENCE:
        yield


class _Limit(int):
    """What `Image.MAX_IMAGE_PIXELS` is while something is decoded: each thread sees its own limit.

    Pillow warns above that number and raises above twice of it, and it is Pillow that must check
    where only a plugin knows the size before it allocates: a PNG inside an ICO, a frame of a GIF.
    A thread inside `decode` gets an error above its `max_pixels`, and never a warning; all others
    get what was set before.
    """

    def __rmul__(self, factor: int) -> int:  # in Pillow: pixels > 2 * MAX_IMAGE_PIXELS
        return getattr(_THREAD, "max_pixels", factor * int(self))

    def __lt__(self, pixels: int) -> bool:  # in Pillow: pixels > MAX_IMAGE_PIXELS
        return not hasattr(_THREAD, "max_pixels") and int(self) < pixels


_THREAD = threading.local()


class _Shared:
    """A context of all threads together: the first one in enters it, the last one out leaves it."""

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
    """Set Pillow's two settings for the whole process as `decode` needs them, and back again."""
    limit, truncated = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    Image.MAX_IMAGE_PIXELS = _Limit(sys.maxsize if limit is None else min(limit, sys.maxsize))
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # else what is missing comes out grey, and all is well
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = limit, truncated


@contextmanager
def _silence() -> Iterator[None]:
    """Mute what Pillow warns and logs, and file descriptor 2, where libtiff prints."""
    log, handler = logging.getLogger("PIL"), logging.NullHandler()
    with warnings.catch_warnings(), _muted(2):
        warnings.filterwarnings("ignore", module=r"PIL\b")
        log.addHandler(handler)  # where there is any handler, logging's last resort stays silent
        try:
            yield
        finally:
            log.removeHandler(handler)


@contextmanager
def _muted(descriptor: int) -> Iterator[None]:
    """Send what is written to the descriptor nowhere; leave it alone if it is closed."""
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
