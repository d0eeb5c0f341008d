"""What the embedded engine needs of a source: listing its images, and reading them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from pomona.source.image_file import Content, ImageFile, read_content

if TYPE_CHECKING:
    from pomona.source.passed_over import PassedOver

__all__ = ["FileReader", "Images", "Reader"]


class Reader(Protocol):
    """Reads images in a worker process, which gets the reader pickled."""

    @property
    def images_at_once(self) -> int:
        """The number of images that a worker gets together: reading ahead stops at the last."""

    def read(self, files: Sequence[ImageFile]) -> Iterator[Content]:
        """Yield the content of each file, in order.

        A reader may read ahead in threads, but yields each image only when asked for it: until
        then, that image counts as the one being read.
        """


class Images(Protocol):
    """The images of a source."""

    @property
    def given(self) -> str:
        """The value of `source`."""

    @property
    def reader(self) -> Reader:
        """What reads the images."""

    def check(self) -> None:
        """Check that there is something to list.

        Raises:
            SourceError: the source does not exist, or cannot be read.
        """

    def files(
        self, on_error: Callable[[OSError], None], passed_over: PassedOver | None = None
    ) -> Iterator[ImageFile]:
        """Yield the images in a fixed order, each once.

        Args:
            on_error: called with the error of each folder that could not be listed.
            passed_over: counts what is skipped.
        """

    def is_gone(self, uri: str) -> bool:
        """Return whether the image of a row was in the source and no longer is."""

    def digest(self, file: ImageFile) -> str | None:
        """Return the SHA-256 of an image's bytes, in hex; None if it cannot be read."""

    @property
    def by_content(self) -> bool:
        """Whether only its bytes tell that an image has changed, not size and time."""


class FileReader:
    """Reads files of this machine, one after the other."""

    images_at_once = 64  # half a second of work

    def read(self, files: Sequence[ImageFile]) -> Iterator[Content]:
        """Yield the content of each file."""
        return map(read_content, files)
