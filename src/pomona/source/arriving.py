"""Images that keep coming: a file that may still be written waits until it no longer changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pomona.io.remote import same_scheme

if TYPE_CHECKING:
    from pomona.source.image_file import ImageFile
    from pomona.source.images import Images
    from pomona.source.passed_over import PassedOver

__all__ = ["Arriving"]

_YOUNG_MS = 5000  # a copy or a download writes more often than this, unless it hangs

_State = tuple[int | None, int | None]


class Arriving:
    """Looks at a source again and again, and holds back files that may still be written.

    A file that was modified less than five seconds ago is held back, unless it has the size and
    the time of the last look. So is a file that cannot be examined.
    """

    def __init__(self) -> None:
        self._young: dict[str, _State] = {}  # files that were young at the last look
        self._now_young: dict[str, _State] = {}
        self._held_back: set[str] = set()

    @property
    def waits(self) -> bool:
        """Whether the last look held a file back."""
        return bool(self._held_back)

    def files(
        self, images: Images
    ) -> Callable[[Callable[[OSError], None], PassedOver], Iterator[ImageFile]]:
        """Return a function that lists a source for one look, as `Images.files` does."""
        self._young, self._now_young, self._held_back = self._now_young, {}, set()

        def files(
            on_error: Callable[[OSError], None], passed_over: PassedOver
        ) -> Iterator[ImageFile]:
            return filter(self._is_complete, images.files(on_error, passed_over))

        return files

    def is_gone(self, images: Images) -> Callable[[str], bool]:
        """Return a test whether the file of a row is gone: files that are held back are not."""
        return lambda uri: same_scheme(uri) not in self._held_back and images.is_gone(uri)

    def _is_complete(self, file: ImageFile) -> bool:
        if file.modified is not None and file.modified < time.time() * 1000 - _YOUNG_MS:
            return True
        name, state = same_scheme(file.uri), (file.size, file.modified)
        self._now_young[name] = state
        if self._young.get(name) == state:
            return True
        self._held_back.add(name)
        return False
