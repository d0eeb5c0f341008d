"""Bytes become a picture, or an error that says what the bytes are."""

from __future__ import annotations

import io
import struct
import subprocess

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps

from decoding import AVIF, FILES, LOSSLESS, any_file, decoded_or_failed, failure, pixels, quick
from drawn import corners, encode, picture, png, turned
from places import SHARED_DATA
from pomona.worker.decode import FAILURES, Picture, decode
from pomona.worker.pillow_limits import quiet_codecs

ODD = SHARED_DATA / "odd"


# Format detection --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(LOSSLESS))
def test_lossless_file_gives_its_pixels_and_its_format(name):
    decoded = decode(FILES[name])
    assert np.array_equal(pixels(decoded), np.asarray(picture()))
    assert (decoded.format, decoded.width, decoded.height) == (name, 48, 32)
    assert decoded.orientation is None


@pytest.mark.parametrize("name", ["JPEG", "GIF", AVIF])
def test_lossy_file_gives_nearly_its_pixels_and_its_format(name):
    decoded = decode(encode(picture(), name))
    assert np.abs(pixels(decoded) - np.asarray(picture()).astype(int)).mean() < 10
    assert (decoded.format, decoded.width, decoded.height) == (name, 48, 32)


def test_memoryview_is_decoded_like_bytes():
    content = memoryview(b"..." + FILES["PNG"])[3:]
    assert np.array_equal(pixels(decode(content)), np.asarray(picture()))


def test_multi_picture_jpeg_is_a_jpeg():
    content = encode(picture(), "MPO", save_all=True, append_images=[picture(seed=1)])
    decoded = decode(content)
    assert decoded.format == "JPEG"
    assert np.array_equal(pixels(decoded), np.asarray(Image.open(io.BytesIO(content))))


def test_broken_index_of_further_pictures_does_not_affect_the_first():
    content = encode(picture(), "MPO", save_all=True, append_images=[picture(seed=1)])
    broken = content.replace(b"MPF\0II", b"MPF\0??")
    assert np.array_equal(pixels(decode(broken)), pixels(decode(content)))


def test_zero_bytes_have_status_empty():
    assert failure(b"").status == "empty"
    assert failure(memoryview(b"")).status == "empty"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html>404", "HTML"),
        (b"\n <html lang='en'>", "HTML"),
        (b"<?xml version='1.0'?>\n<svg xmlns=", "SVG"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"%PDF-1.7", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "EPS"),
        (b"8BPS\0\1", "PSD"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "video"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL"),
        (b"PK\3\4", "ZIP"),
        (b"\x1f\x8b\x08", "gzip"),
        (bytes(100), "zeros"),
        (b"BMW is a car", "expected one of JPEG, PNG"),
        (b"P5 minutes later", "first bytes b'P5 minutes l'"),
        (b"\n\x1b[31m\xff", r"first bytes b'\n\x1b[31m\xff'"),
    ],
)
def test_a_file_that_is_not_an_image_is_unsupported_and_identified_by_its_first_bytes(
    content, words
):
    error = failure(content)
    if not content.startswith(b"P5"):  # the magic number of a grey PPM
        assert error.status == "unsupported"
        assert words in str(error)


def test_postscript_is_never_run(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *_: pytest.fail("a program was started"))
    assert failure(encode(picture(), "EPS")).status == "unsupported"


def test_tiff_variant_that_pillow_cannot_read_is_unsupported():
    content = bytearray(encode(picture(), "TIFF"))
    at = content.index(struct.pack("<HHI", 259, 3, 1)) + 8  # the tag for the compression
    content[at : at + 2] = struct.pack("<H", 50002)
    error = failure(bytes(content))
    assert (error.status, error.format) == ("unsupported", "TIFF")
    assert "compression 50002" in str(error)


def test_twelve_bit_jpeg_is_unsupported():
    content = FILES["JPEG"].replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c")
    assert failure(content).status == "unsupported"


# Truncated and corrupt ---------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("name", sorted(FILES))
def test_part_of_a_file_is_truncated(name, share):
    with quiet_codecs():
        error = failure(FILES[name][: int(len(FILES[name]) * share)])
    assert error.status == "truncated"
    assert error.format is not None


def test_jpeg_2000_cut_between_tiles_is_truncated_although_pillow_accepts_it():
    content = encode(picture(), "JPEG2000", tile_size=(16, 16))
    part = content[: content.rindex(b"\xff\x90") + 2]  # with the marker of the last tile
    Image.open(io.BytesIO(part)).load()
    assert failure(part).status == "truncated"


def test_jpeg_2000_codestream_needs_the_same_end_marker_as_a_file_with_boxes():
    content = FILES["JPEG2000"]
    codestream = content[content.index(b"\xff\x4f\xff\x51") :]
    assert decode(codestream).format == "JPEG2000"
    assert failure(codestream[:-2]).status == "truncated"


def test_error_for_a_truncated_file_includes_the_size_of_the_picture():
    error = failure(FILES["JPEG"][:-100])
    assert (error.width, error.height, error.format) == (48, 32, "JPEG")


def test_pillows_load_truncated_images_is_ignored_and_unchanged(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert failure(FILES["JPEG"][:-100]).status == "truncated"
    assert failure(FILES["PNG"][:-100]).status == "truncated"
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_flipped_bit_in_a_png_header_is_corrupt():
    content = bytearray(FILES["PNG"])
    content[18] ^= 1
    error = failure(bytes(content))
    assert (error.status, error.format) == ("corrupt", "PNG")
    assert "checksum" in str(error)


def test_garbage_in_the_data_is_corrupt_and_not_truncated():
    content = bytearray(FILES["PNG"])
    at = content.index(b"IDAT") + 10
    content[at : at + 200] = bytes(200)
    error = failure(bytes(content))
    assert (error.status, error.width, error.height) == ("corrupt", 48, 32)


def test_garbage_after_a_tiff_header_is_corrupt_and_not_truncated():
    content = bytearray(FILES["TIFF in LZW strips"])
    content[8:200] = bytes(192)
    with quiet_codecs():
        assert failure(bytes(content)).status == "corrupt"


# Animations, orientation, draft ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["GIF", "PNG", "TIFF", "WEBP", AVIF])
def test_first_frame_of_many_is_taken(name):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    content = encode(frames[0], name, save_all=True, append_images=frames[1:])
    assert np.abs(pixels(decode(content)) - np.array([255, 0, 0])).max() < 8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", AVIF])
def test_exif_orientation_is_returned_and_the_size_is_as_stored(name, orientation):
    decoded = decode(turned(picture(), orientation, name))
    assert (decoded.width, decoded.height) == ((32, 48) if orientation > 4 else (48, 32))
    assert decoded.image.size == (decoded.width, decoded.height)
    assert decoded.sideways == (orientation > 4)
    assert (decoded.orientation is None) == (orientation == 1)
    upright = decoded.image
    if decoded.orientation is not None:
        upright = upright.transpose(decoded.orientation)
    assert corners(upright) == "kryg"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_tiff_is_returned_upright_and_not_rotated_again(orientation, compression):
    decoded = decode(turned(picture(), orientation, "TIFF", compression=compression))
    assert (decoded.width, decoded.height) == ((32, 48) if orientation > 4 else (48, 32))
    assert decoded.orientation is None
    assert np.array_equal(pixels(decoded), np.asarray(picture()))


def test_orientation_after_the_pixels_of_a_png_is_found():
    exif = b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
    decoded = decode(png((1, 1), 8, 0, [b"\0"], after=[(b"eXIf", exif)]))
    assert decoded.orientation is Image.Transpose.ROTATE_270


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_invalid_orientation_means_upright(value):
    exif = Image.Exif()
    exif[0x0112] = value
    assert decode(encode(picture(), "JPEG", exif=exif)).orientation is None


@quick
@example(b"I", b"")
@given(st.binary(max_size=80), st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]))
def test_broken_exif_never_fails_the_image(blob, start):
    exif = b"Exif\0\0" + start + blob
    with quiet_codecs():
        assert decode(encode(picture(8, 8), "JPEG", exif=exif)).width == 8
        assert decode(encode(picture(8, 8), "PNG", exif=exif)).width == 8


def test_draft_scales_a_jpeg_to_at_least_the_requested_size():
    content = encode(picture(800, 600), "JPEG")
    decoded = decode(content, draft=(150, 150))
    assert decoded.image.size == (200, 150)
    assert (decoded.width, decoded.height) == (800, 600)
    assert decode(content, draft=(500, 400)).image.size == (800, 600)
    assert decode(content, draft=(2000, 2000)).image.size == (800, 600)


def test_draft_size_refers_to_the_upright_picture():
    content = turned(picture(800, 400), 6, "JPEG")
    assert decode(content, draft=(200, 100)).image.size == (100, 200)


def test_draft_does_not_affect_formats_other_than_jpeg():
    assert decode(FILES["PNG"], draft=(4, 4)).image.size == (48, 32)


# Properties --------------------------------------------------------------------------------------


@quick
@given(st.binary(max_size=200))
def test_any_bytes_become_a_picture_or_an_image_error(content):
    decoded_or_failed(content)


@quick
@given(any_file, st.integers(1, 40), st.binary(max_size=100))
def test_any_bytes_after_a_valid_start_become_a_picture_or_an_image_error(content, length, rest):
    decoded_or_failed(content[:length] + rest, max_pixels=1_000_000)


@quick
@given(any_file, st.data())
def test_file_cut_anywhere_is_an_image_error_or_the_complete_picture(content, data):
    result = decoded_or_failed(content[: data.draw(st.integers(1, len(content) - 1))])
    if isinstance(result, Picture):
        assert np.array_equal(pixels(result), pixels(decode(content)))


@quick
@given(any_file, st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=6))
def test_file_with_changed_bytes_becomes_a_picture_or_an_image_error(content, changes):
    changed = bytearray(content)
    for at, value in changes:
        changed[at % len(changed)] = value
    decoded_or_failed(bytes(changed), max_pixels=1_000_000)


# Shared test images ------------------------------------------------------------------------------


@pytest.mark.skipif(not ODD.is_dir(), reason="no images in shared/data/odd")
def test_real_odd_images_fail_only_with_image_errors_and_silently(capfd):
    statuses = set()
    with quiet_codecs():
        for path in sorted(path for path in ODD.rglob("*") if path.is_file()):
            result = decoded_or_failed(path.read_bytes())
            statuses.add("ok" if isinstance(result, Picture) else result.status)
    assert statuses == {"ok", *FAILURES}
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not ODD.is_dir(), reason="no images in shared/data/odd")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_real_camera_orientations_agree_with_pillow(orientation):
    path = next((ODD / "exif-orientation").glob(f"*{orientation}.*"))
    decoded = decode(path.read_bytes())
    upright = decoded.image
    if decoded.orientation is not None:
        upright = upright.transpose(decoded.orientation)
    expected = ImageOps.exif_transpose(Image.open(path))
    assert np.array_equal(np.asarray(upright), np.asarray(expected))
