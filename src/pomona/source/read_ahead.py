"""Reading images in threads, ahead of the network, and yielding them in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

from pomona.source.image_file import Content, ImageFile

__all__ = ["read_ahead", "read_groups_ahead", "reading_threads"]

_AT_ONCE = 16  # reads: 320 images a second if each takes two answers of 25 ms
_AHEAD = 64  # images, or groups
_AHEAD_BYTES = 64 * 2**20  # of all images that are read and not yet yielded
_UNKNOWN_BYTES = 4 * 2**20  # what an image counts whose size is not known


def read_ahead(
    files: Sequence[ImageFile],
    content: Callable[[ImageFile], Content],
    is_far: Callable[[ImageFile], bool] = lambda _: True,
) -> Iterator[Content]:
    """Yield the content of each file, in order.

    Args:
        files: the files.
        content: reads one file.
        is_far: whether a file is read ahead; others are read when their turn comes.
    """
    return read_groups_ahead(
        ([file] for file in files), lambda group: [content(file) for file in group], is_far
    )


def read_groups_ahead(
    groups: Iterable[Sequence[ImageFile]],
    contents: Callable[[Sequence[ImageFile]], Sequence[Content]],
    is_far: Callable[[ImageFile], bool],
) -> Iterator[Content]:
    """Yield the content of each file, in order.

    Args:
        groups: the files; those of a group are read together, and a group is not empty.
        contents: reads a group.
        is_far: whether the group of a file is read ahead.
    """
    left = iter(groups)
    waiting: deque[tuple[Sequence[ImageFile], Future[Sequence[Content]] | None, int]] = deque()
    held = 0

    def start() -> None:
        nonlocal held
        while len(waiting) < _AHEAD and (held < _AHEAD_BYTES or not waiting):
            group = next(left, None)
            if group is None:
                return
            future, size = None, 0
            if is_far(group[0]):
                future = reading_threads().submit(contents, group)
                size = sum(file.size or _UNKNOWN_BYTES for file in group)
            waiting.append((group, future, size))
            held += size

    try:
        start()
        while waiting:
            group, future, size = waiting.popleft()
            found = future.result() if future else contents(group)
            start()
            yield from found
            held -= size
    finally:
        for _, future, _ in waiting:
            if future:
                future.cancel()


@cache
def reading_threads() -> ThreadPoolExecutor:
    """Return the threads that read, for all orders of a process."""
    return ThreadPoolExecutor(_AT_ONCE, "pomona-read")
