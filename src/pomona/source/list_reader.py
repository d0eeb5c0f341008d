"""Reads the images of a list in a worker: files of this machine, objects in stores, and URLs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from threading import Lock

from pomona.io.web_address import USUAL_LIMITS, WebLimits
from pomona.source.archives.member import NotBytes
from pomona.source.image_file import Content, ImageFile, content_digest, read_content
from pomona.source.read_ahead import read_ahead
from pomona.source.stores import Stores, is_object
from pomona.source.urls import UrlReader, is_on_web

__all__ = ["ListReader"]


class ListReader:
    """Reads images wherever they are, ahead of the network.

    Attributes:
        web: what fetching from the web may cost.
    """

    images_at_once = 128  # reading ahead stops at the last one

    def __init__(self, web: WebLimits = USUAL_LIMITS) -> None:
        self.web = web
        self._stores = Stores()
        self._urls: UrlReader | None = None
        self._opening = Lock()

    def __reduce__(self) -> tuple[type[ListReader], tuple[WebLimits]]:
        """Pickle no connection."""
        return ListReader, (self.web,)

    def shared_by(self, workers: int) -> ListReader:
        """Return the reader for one of several workers, which share what a host gets at once."""
        return ListReader(replace(self.web, per_host=max(1, self.web.per_host // workers)))

    def read(self, files: Sequence[ImageFile]) -> Iterator[Content]:
        """Yield the content of each file, in order.

        Raises:
            RunError: a store fails for all objects.
        """
        return read_ahead(files, self.content, lambda file: is_object(file) or is_on_web(file))

    def content(self, file: ImageFile) -> Content:
        """Return the content of one file."""
        if isinstance(file.place, NotBytes):
            return None, file.place.reason
        if is_on_web(file):
            return self._url_reader().content(file)
        return self._stores.read(file) if is_object(file) else read_content(file)

    def _url_reader(self) -> UrlReader:
        with self._opening:
            self._urls = self._urls or UrlReader(self.web)
            return self._urls

    def digest(self, file: ImageFile) -> str | None:
        """Return the SHA-256 of a file's bytes in hex; None if it is on the web or unreadable."""
        if file.place is None:
            return content_digest(file)
        if is_on_web(file):
            return None  # it would be fetched twice
        content, _ = self.content(file)
        return None if content is None else hashlib.sha256(content).hexdigest()
