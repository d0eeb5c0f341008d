"""HEIF and HEIC: pixels match pillow-heif, and each picture is rotated exactly once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from decoding import AVIF, decoded_or_failed, failure, pixels, quick
from drawn import corners, encode, picture
from places import TESTS
from pomona.source.selection import IMAGE_EXTENSIONS
from pomona.worker.decode import decode
from pomona.worker.formats import heif, recognition

FOLDER = TESTS / "goldens" / "images" / "heif"
FILES = {path.stem: path.read_bytes() for path in sorted(FOLDER.glob("*.heic"))}
EXPECTED = np.load(FOLDER / "pixels.npz")


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Simulate that the extra is not installed."""

    def missing(name: str) -> None:
        raise ImportError(name)

    recognition.plugin.cache_clear()
    monkeypatch.setattr(heif, "import_module", missing)
    yield
    recognition.plugin.cache_clear()


@pytest.mark.parametrize("name", sorted(FILES))
def test_pixels_match_pillow_heif(name):
    decoded = decode(FILES[name])
    expected = EXPECTED[name]
    if expected.shape[2] == 4:
        white = Image.new("RGB", decoded.image.size, "white")
        white.paste(Image.fromarray(expected), mask=Image.fromarray(expected[..., 3]))
        expected = np.asarray(white)
    assert np.array_equal(pixels(decoded), expected)
    assert (decoded.format, decoded.image.size) == ("HEIF", (decoded.width, decoded.height))


def test_lossless_file_gives_nearly_the_drawn_pixels():
    difference = pixels(decode(FILES["lossless"])).astype(int) - np.asarray(picture(32, 24))
    assert np.abs(difference).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_picture_is_rotated_once(orientation):
    content = FILES[f"orientation_{orientation}"]
    decoded = decode(content)
    assert decoded.orientation is None
    assert corners(decoded.image) == "kryg"
    if orientation > 1:
        assert b"irot" in content or b"imir" in content  # and EXIF has the same orientation
        assert b"Exif" in content


def test_orientation_in_exif_only_is_ignored():
    decoded = decode(FILES["exif_only"])  # only the container's own boxes count, and there are none
    assert (decoded.orientation, decoded.width, decoded.height) == (None, 24, 32)


def test_more_pixels_than_the_limit_are_refused_before_decoding(monkeypatch):
    monkeypatch.setattr(Image.Image, "frombytes", lambda *_: pytest.fail("was decoded"))
    error = failure(FILES["colour"], max_pixels=32 * 24 - 1)
    assert (error.status, error.width, error.height) == ("too_large", 32, 24)


@pytest.mark.parametrize("name", ["HEIF", AVIF])
def test_file_cut_anywhere_is_truncated(name):
    content = FILES["colour"] if name == "HEIF" else encode(picture(), "AVIF")
    for size in range(32, len(content)):
        error = failure(content[:size])
        assert (error.status, error.format) == ("truncated", name)


def test_damaged_header_is_corrupt():
    damaged = FILES["colour"].replace(b"hvcC", b"????")
    assert failure(damaged).status == "corrupt"


def test_file_that_crashed_an_older_libheif_is_a_picture_or_an_image_error():
    decoded_or_failed((FOLDER / "damaged_metadata.bin").read_bytes())


@quick
@given(
    st.sampled_from(sorted(FILES)),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_changed_bytes_give_a_picture_or_an_image_error(name, changes):
    changed = bytearray(FILES[name])
    for share, value in changes:
        changed[int(share * len(changed))] = value
    decoded_or_failed(bytes(changed), max_pixels=1_000_000)


@pytest.mark.usefixtures("no_package")
def test_without_the_extra_a_file_is_unsupported_and_the_error_names_the_extra():
    error = failure(FILES["colour"])
    assert (error.status, error.format) == ("unsupported", "HEIF")
    assert "install the extra 'heif'" in str(error)


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"hevc", b"mif1", b"msf1"])
@pytest.mark.usefixtures("no_package")
def test_each_heif_brand_is_known(brand):
    content = b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic"
    assert "install the extra 'heif'" in str(failure(content))


@pytest.mark.parametrize("extension", IMAGE_EXTENSIONS)
def test_files_with_every_listed_extension_are_read(extension):
    known = Image.registered_extensions()
    form = known.get(extension, "JPEG" if extension.startswith(".pj") else "HEIF")
    mode = {".pbm": "1", ".pgm": "L", ".pfm": "F"}.get(extension, "RGB")
    base = picture().convert("L" if mode == "F" else "RGB").convert(mode)
    options = {"save_all": True, "append_images": [base]} if extension == ".mpo" else {}
    content = FILES["colour"] if form == "HEIF" else encode(base, form, **options)
    decoded = decode(content)
    assert decoded.image.mode == "RGB"
    assert decoded.format == ("JPEG" if form == "MPO" else form)
