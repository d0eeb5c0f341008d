"""Reads the images of a list in a worker process: files of this machine, and objects in stores."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from pomona.source.archives.member import NotBytes
from pomona.source.image_file import Content, ImageFile, content_digest, read_content
from pomona.source.read_ahead import read_ahead
from pomona.source.stores import Stores, is_object

__all__ = ["ListReader"]


class ListReader:
    """Reads images wherever they are, objects ahead of the network."""

    images_at_once = 128  # reading ahead stops at the last one

    def __init__(self) -> None:
        self._stores = Stores()

    def __reduce__(self) -> tuple[type[ListReader], tuple[()]]:
        """Pickle no connection."""
        return ListReader, ()

    def read(self, files: Sequence[ImageFile]) -> Iterator[Content]:
        """Yield the content of each file, in order.

        Raises:
            RunError: a store fails for all objects.
        """
        return read_ahead(files, self.content, is_object)

    def content(self, file: ImageFile) -> Content:
        """Return the content of one file."""
        if isinstance(file.place, NotBytes):
            return None, file.place.reason
        return self._stores.read(file) if is_object(file) else read_content(file)

    def digest(self, file: ImageFile) -> str | None:
        """Return the SHA-256 of a file's bytes, in hex; None if it cannot be read."""
        if file.place is None:
            return content_digest(file)
        content, _ = self.content(file)
        return None if content is None else hashlib.sha256(content).hexdigest()
