"""File names that a listing could lose."""

from __future__ import annotations

from collections.abc import Iterator

import drawn
from corpus import Case


def cases() -> Iterator[Case]:
    jpeg = drawn.encode(drawn.picture(), "JPEG")
    for name in (
        "UPPER.JPG",
        "two words.jpg",
        "brackets [1] {a,b}.jpg",
        "kind=odd/été #1 100%.jpg",
        "_DSC0001.JPG",
        "_export/_MG_2345.JPG",
        "_metadata/photo.jpg",
        "a.jfif",
        "b.JPE",
        "b.JIF",
        "c.mpo",
    ):
        yield Case(name, jpeg, jpeg)
    yield Case("empty.jpg", b"", status="empty", error="0 bytes")
