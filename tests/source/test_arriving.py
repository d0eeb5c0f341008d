"""Files that may still be written are held back until two looks agree."""

from __future__ import annotations

import time

import pytest

from pomona.source.arriving import Arriving
from pomona.source.image_file import ImageFile
from pomona.source.listing import Listing


class Shown:
    """A source that lists what it is told to."""

    given = "shown"
    by_content = False
    reader = None

    def __init__(self, *files: ImageFile) -> None:
        self._files = files

    def check(self) -> None:
        pass

    def files(self, *_: object) -> object:
        return iter(self._files)

    def is_gone(self, uri: str) -> bool:  # noqa: ARG002 - as of a bucket: what is not listed is gone
        return True

    def digest(self, file: ImageFile) -> str | None:
        raise AssertionError(f"{file.path} was read, but looks only list")


def look(arriving: Arriving, *files: ImageFile) -> list[str]:
    """The paths that a look takes."""
    listing = Listing.of(Shown(*files), arriving)  # type: ignore[arg-type]
    return [file.path for file in listing.files()]


def young(size: int | None = 10, age_ms: int = 100) -> ImageFile:
    return ImageFile("/young.jpg", size, int(time.time() * 1000) - age_ms)


OLD = ImageFile("/old.jpg", 10, 1_600_000_000_000)


def test_an_old_file_is_taken_at_once() -> None:
    arriving = Arriving()
    assert look(arriving, OLD) == ["/old.jpg"]
    assert not arriving.waits


def test_a_young_file_is_taken_when_two_looks_agree() -> None:
    arriving, file = Arriving(), young()
    assert look(arriving, OLD, file) == ["/old.jpg"]
    assert arriving.waits
    assert look(arriving, OLD, file) == ["/old.jpg", "/young.jpg"]
    assert not arriving.waits
    assert look(arriving, OLD, file) == ["/old.jpg", "/young.jpg"]


def test_a_file_that_grows_waits_until_it_does_not() -> None:
    arriving, last = Arriving(), young(40)
    for file in (young(10), young(20), young(30), last):
        assert look(arriving, file) == []
    assert look(arriving, last) == ["/young.jpg"]


@pytest.mark.parametrize("age_ms", [-3_600_000, 4_000])
def test_the_clock_of_another_machine_may_be_ahead(age_ms: int) -> None:
    arriving, file = Arriving(), young(age_ms=age_ms)
    assert look(arriving, file) == []
    assert look(arriving, file) == ["/young.jpg"]


def test_a_file_that_cannot_be_examined_waits_for_a_second_look() -> None:
    arriving, file = Arriving(), ImageFile("/broken link.jpg", None, None)
    assert look(arriving, file) == []
    assert look(arriving, file) == ["/broken link.jpg"]


def test_a_file_that_is_held_back_is_not_gone() -> None:
    arriving = Arriving()
    held = ImageFile("s3://bucket/young.jpg", 10, int(time.time() * 1000))
    listing = Listing.of(Shown(held), arriving)  # type: ignore[arg-type]
    assert list(listing.files()) == []
    assert not listing.is_gone("s3://bucket/young.jpg")
    assert not listing.is_gone("s3a://bucket/young.jpg")
    assert listing.is_gone("s3://bucket/other.jpg")
