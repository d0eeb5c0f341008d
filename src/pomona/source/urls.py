"""Images on the web, named by a list: http and https."""

from __future__ import annotations

from enum import Enum
from urllib.parse import urldefrag

from pomona.io.location import scheme_of
from pomona.io.member_uri import is_text
from pomona.io.web_address import NotFetched, Target, WebLimits, without_user
from pomona.source.archives.member import NotBytes
from pomona.source.image_file import Content, ImageFile

__all__ = ["UrlReader", "host_of", "is_on_web", "is_url", "named_url"]


class _Place(Enum):
    WEB = "web"


def is_url(path: str) -> bool:
    """Return whether an entry of a list is an address of the web."""
    return scheme_of(path) in {"http", "https"} and path.partition(":")[2].startswith("//")


def is_on_web(file: ImageFile) -> bool:
    """Return whether an image is fetched from the web."""
    return file.place is _Place.WEB


def named_url(url: str) -> ImageFile:
    """Return the image at a URL; `place` says that it is fetched, or why not.

    Args:
        url: the URL. Its fragment is left out, and so are a user name and a password.
    """
    named = without_user(urldefrag(url).url if "#" in url else url)
    clean = named.encode(errors="replace").decode()
    if not is_text(url):
        return ImageFile(clean, None, None, NotBytes("is not valid UTF-8"))
    try:
        Target.of(url)
    except NotFetched as error:
        return ImageFile(clean, None, None, NotBytes(str(error)))
    return ImageFile(clean, None, None, _Place.WEB)


def host_of(file: ImageFile) -> str | None:
    """Return the host from which an image is fetched; None if it is not on the web."""
    return Target.of(file.path).host if is_on_web(file) else None


class UrlReader:
    """Fetches images."""

    def __init__(self, limits: WebLimits) -> None:
        from pomona.io.web import Fetcher  # takes 0.1 s

        self._fetcher = Fetcher(limits)

    def content(self, file: ImageFile) -> Content:
        """Return the content of an image, or None and the reason why it cannot be fetched."""
        try:
            return self._fetcher.get(file.path), None
        except NotFetched as error:
            return None, f"cannot be fetched: {error}"
