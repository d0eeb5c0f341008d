"""Work done ahead, in a thread of its own, while something else computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def ahead(make: Iterator[Item], depth: int = 4) -> Iterator[Item]:
    """Give what `make` gives, made up to `depth` items ahead; what it raises is raised here."""
    pool = ThreadPoolExecutor(1)
    try:
        coming = deque(pool.submit(lambda: next(make, _END)) for _ in range(depth))
        while (item := coming.popleft().result()) is not _END:
            yield item  # type: ignore[misc]
            coming.append(pool.submit(lambda: next(make, _END)))
    finally:
        pool.shutdown(cancel_futures=True)


_END = object()
