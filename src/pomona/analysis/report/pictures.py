"""The pictures of a report: read once each, small, as data URIs, up to a number of bytes."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field

from pomona.analysis.figures.thumbnails import as_webp, read_thumbnails
from pomona.analysis.progress import Step, no_steps

__all__ = ["Pictures", "read_pictures"]

_SIDE = 96  # pixels, shown at most as large


@dataclass(slots=True)
class Pictures:
    """Pictures by path.

    Attributes:
        found: base64 of WebP files.
        missing: paths whose file is gone, or is no image.
        left_out: paths that there was no room for.
    """

    found: dict[str, str] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    left_out: set[str] = field(default_factory=set)

    def uri(self, path: str) -> str | None:
        """What an `img` element takes; None without a picture."""
        found = self.found.get(path)
        return f"data:image/webp;base64,{found}" if found else None


def read_pictures(paths: Iterable[str], most_bytes: int, step: Step = no_steps) -> Pictures:
    """Read the pictures of some images, the first ones first, each once.

    Args:
        paths: of the images.
        most_bytes: what all may take in the page together.
        step: told how far it is.
    """
    wanted = list(dict.fromkeys(paths))
    pictures = Pictures()
    taken = 0
    for number, (path, image) in enumerate(
        zip(wanted, read_thumbnails(wanted, _SIDE), strict=True), start=1
    ):
        if image is None:
            pictures.missing.add(path)
        else:
            text = base64.b64encode(as_webp(image)).decode()
            if taken + len(text) > most_bytes:
                pictures.left_out.update(wanted[number - 1 :])
                pictures.left_out -= pictures.missing
                break
            taken += len(text)
            pictures.found[path] = text
        step("reading pictures", number, len(wanted))
    return pictures
