"""The pictures of a report: thumbnails as data URIs, up to a number of bytes."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field

from pomona.analysis.figures.thumbnails import as_webp, read_thumbnails
from pomona.progress import Progress, Snapshot, no_progress

__all__ = ["Pictures", "read_pictures"]

_SIDE = 96  # pixels: no picture of the page is shown larger


@dataclass(slots=True)
class Pictures:
    """Pictures by path.

    Attributes:
        found: WebP files in base64.
        missing: paths whose file no longer exists, or is not an image.
        left_out: paths whose picture did not fit.
    """

    found: dict[str, str] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    left_out: set[str] = field(default_factory=set)

    def uri(self, path: str) -> str | None:
        """Return the data URI of a picture; None if there is none."""
        found = self.found.get(path)
        return f"data:image/webp;base64,{found}" if found else None


def read_pictures(
    paths: Iterable[str], most_bytes: int, progress: Progress = no_progress
) -> Pictures:
    """Read the pictures of images, each once, until they fill the space.

    Args:
        paths: of the images, the most important first.
        most_bytes: space for all of them in the page.
        progress: called with the progress.
    """
    unique = list(dict.fromkeys(paths))
    pictures = Pictures()
    used = 0
    for number, (path, image) in enumerate(
        zip(unique, read_thumbnails(unique, _SIDE), strict=True), start=1
    ):
        if image is None:
            pictures.missing.add(path)
        else:
            text = base64.b64encode(as_webp(image)).decode()
            if used + len(text) > most_bytes:
                pictures.left_out.update(unique[number - 1 :])
                pictures.left_out -= pictures.missing
                break
            used += len(text)
            pictures.found[path] = text
        progress(Snapshot("reading pictures", number, len(unique)))
    return pictures
