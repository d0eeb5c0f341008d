"""A JPEG is `ok` if and only if the file contains every pixel, whatever follows the data."""

from __future__ import annotations

import io
import itertools
import re

import numpy as np
import pytest
import simplejpeg
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from decoding import decoded_or_failed, failure, pixels, quick
from drawn import encode, picture
from places import TESTS
from pomona.worker.decode import Picture, decode
from pomona.worker.formats.jpeg_data import JpegData

END = b"\xff\xd9"
IMAGES = TESTS / "goldens" / "images"


def noisy(width: int = 150, height: int = 110, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(0)
    levels = np.asarray(picture(width, height)) + rng.normal(0, 9, (height, width, 3))
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8)).convert(mode)


HUFFMAN = {
    "baseline": encode(noisy(), "JPEG"),
    "smooth": encode(picture(), "JPEG"),
    "one colour": encode(Image.new("RGB", (70, 50), (9, 120, 200)), "JPEG"),
    "optimized": encode(noisy(), "JPEG", optimize=True),
    "not subsampled": encode(noisy(), "JPEG", subsampling=0),
    "RGB without YCbCr": encode(noisy(), "JPEG", keep_rgb=True),
    "grey": encode(noisy(mode="L"), "JPEG"),
    "CMYK": encode(noisy(mode="CMYK"), "JPEG"),
    "restart markers": encode(noisy(), "JPEG", restart_marker_blocks=7),
    "progressive": encode(noisy(), "JPEG", progressive=True),
    "progressive grey": encode(noisy(mode="L"), "JPEG", progressive=True),
    "progressive CMYK": encode(noisy(mode="CMYK"), "JPEG", progressive=True),
    "progressive, restart markers": encode(
        noisy(), "JPEG", progressive=True, restart_marker_blocks=7
    ),
}
ARITHMETIC = {
    "arithmetic": (IMAGES / "arithmetic.jpg").read_bytes(),
    "arithmetic, progressive": (IMAGES / "arithmetic_progressive.jpg").read_bytes(),
}
FILES = HUFFMAN | ARITHMETIC
LIKE_DATA = {
    "no end marker, text": b"made by Image_UTC_Data1700000000000",
    "a byte too many": b"\x5a" + END,
}
VIDEO = b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(range(256)) * 9
SAMSUNG = b"SEFH\x6a\0\0\0\1\0\0\0\0\0\1\x0a\x17\0\0\0\x17\0\0\0\x18\0\0\0SEFT"
KNOWN_TRAILERS = {
    "no end marker, Samsung's trailer": b"\0\0\1\x0a\x0e\0\0\0Image_UTC_Data1700000000" + SAMSUNG,
    "no end marker, Samsung's motion photo": b"\0\0\x30\x0a\x10\0\0\0MotionPhoto_Data" + VIDEO,
    "no end marker, a table of Samsung's": SAMSUNG + bytes(range(255)) * 4,
    "no end marker, a video": VIDEO,
    "no end marker, a QuickTime video": b"\0\0\0\x14ftypqt  \0\0\0\0qt  " + bytes(range(254)) * 9,
    "no end marker, an archive": b"PK\3\4\x14\0\0\0" + bytes(range(250)) * 4,
    "no end marker, a PNG": encode(noisy(40, 40), "PNG"),
    "no end marker, a WEBP": encode(noisy(40, 40), "WEBP"),
    "no end marker, XMP": b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + b" " * 900,
    "no end marker, HTML": b"<html><body>" + b"connection lost " * 90,
}
ENDS = (
    LIKE_DATA
    | KNOWN_TRAILERS
    | {
        "no end marker": b"",
        "half an end marker": b"\xff",
        "no end marker, an unknown marker": b"\xff\x10 and more",
        "no end marker, another picture": HUFFMAN["smooth"],
        "no end marker, zeros": bytes(3000),
        "end marker, text": END + b"SEFH\x6a\0\0\0 Image_UTC_Data1700000000000 SEFT",
        "end marker, an unknown marker": END + b"\xff\x10 and more",
        "end marker, another picture": END + HUFFMAN["smooth"],
        "end marker, half of another picture": END + HUFFMAN["smooth"][:300],
        "end marker, zeros": END + bytes(3000),
        "fill bytes": b"\xff\xff\xff\xff" + END,
        "zeros, end marker": bytes(3000) + END,
    }
)


def by_pillow(content: bytes, draft: tuple[int, int] | None = None) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        if draft:
            image.draft(None, draft)
        return np.asarray(image.convert("RGB"))


def scan_starts(content: bytes) -> list[int]:
    """The offsets at which scan headers begin."""
    return [match.start() for match in re.finditer(rb"\xff\xda\0[\x08\x0a\x0c\x0e]", content)]


# Pixels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draft", [None, (30, 30), (15, 15)])
@pytest.mark.parametrize("name", sorted(FILES))
def test_pixels_match_pillow(name, draft):
    assert np.array_equal(pixels(decode(FILES[name], draft=draft)), by_pillow(FILES[name], draft))


@quick
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([0, 1, 2]),
    st.booleans(),
)
def test_pixels_of_any_size_and_draft_match_pillow(width, height, enough, subsampling, progressive):
    options = {"subsampling": subsampling, "progressive": progressive}
    content = encode(picture(width, height), "JPEG", **options)
    assert np.array_equal(pixels(decode(content)), by_pillow(content))
    if max(width, height) >= 16:  # smaller pictures are never scaled
        draft = (enough, enough)
        assert np.array_equal(pixels(decode(content, draft=draft)), by_pillow(content, draft))


# Ends of files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("draft", [None, (15, 15)])
@pytest.mark.parametrize(
    ("name", "end"),
    [
        *itertools.product(HUFFMAN, ENDS),
        *itertools.product(ARITHMETIC, sorted(ENDS.keys() - LIKE_DATA.keys())),
    ],
)
def test_complete_picture_is_ok_for_any_end_of_the_file(name, end, draft):
    whole = FILES[name]
    content = whole.removesuffix(END) + ENDS[end]
    assert np.array_equal(pixels(decode(content, draft=draft)), pixels(decode(whole, draft=draft)))


@pytest.mark.parametrize("name", sorted(ARITHMETIC))
def test_arithmetic_coded_data_followed_by_text_is_corrupt(name):
    text = LIKE_DATA["no end marker, text"]
    assert failure(ARITHMETIC[name][:-2] + text).status == "corrupt"


@quick
@given(st.sampled_from(sorted(HUFFMAN)), st.binary(max_size=60))
def test_bytes_after_an_end_marker_are_ignored(name, trailer):
    decoded = decode(HUFFMAN[name] + trailer)
    assert np.array_equal(pixels(decoded), pixels(decode(HUFFMAN[name])))


@quick
@example("one colour", 0.999, END)
@example("progressive", 0.484375, END + HUFFMAN["smooth"])  # inside a table
@given(
    st.sampled_from(sorted(HUFFMAN)),
    st.floats(0, 0.9999),
    st.sampled_from([b"", END, END + b"text", b"\xff\x10 text", END + HUFFMAN["smooth"]]),
)
def test_data_cut_anywhere_is_truncated_whatever_bytes_follow(name, share, end):
    content = HUFFMAN[name]
    start = scan_starts(content)[0]
    start += 2 + content[start + 3]  # after the scan header
    cut = start + int(share * (len(content) - len(END) - start))
    assert failure(content[:cut] + end).status == "truncated"
    assert failure(content[:cut] + end, draft=(15, 15)).status == "truncated"


@pytest.mark.parametrize("end", sorted(KNOWN_TRAILERS))
@pytest.mark.parametrize("name", sorted(HUFFMAN))
def test_data_cut_before_a_known_trailer_is_truncated(name, end):
    content = HUFFMAN[name]
    start = scan_starts(content)[-1]
    start += 2 + content[start + 3]  # after the scan header
    for share in (0.3, 0.8, 0.99):
        cut = start + int(share * (len(content) - len(END) - start))
        assert failure(content[:cut] + KNOWN_TRAILERS[end]).status == "truncated"
        assert failure(content[:cut] + KNOWN_TRAILERS[end], draft=(15, 15)).status == "truncated"


@pytest.mark.parametrize("name", sorted(ARITHMETIC))
@pytest.mark.parametrize("lost", [12, 30, 150])
@pytest.mark.parametrize("end", [b"", END, bytes(500), bytes(500) + END])
def test_cut_arithmetic_coded_data_is_truncated(name, lost, end):
    assert failure(ARITHMETIC[name][: -2 - lost] + end).status == "truncated"


@pytest.mark.parametrize("name", [name for name in sorted(FILES) if "progressive" in name])
def test_progressive_file_without_its_last_scans_is_truncated(name):
    content = FILES[name]
    starts = scan_starts(content)
    assert len(starts) > 3
    for start in starts[1:]:
        assert by_pillow(content[:start] + END).shape[2] == 3  # Pillow accepts it
        error = failure(content[:start] + END)
        assert error.status == "truncated"
        assert "scans do not complete the picture" in str(error)


@pytest.mark.parametrize("end", [b"", END])
@pytest.mark.parametrize("name", ["baseline", "grey", "CMYK", "progressive", "restart markers"])
def test_preallocated_file_of_an_interrupted_download_is_truncated(name, end):
    content = HUFFMAN[name]
    for share in (0.5, 0.8, 0.95):
        cut = content[: int(len(content) * share)]
        assert failure(cut + bytes(len(content)) + end).status == "truncated"


@pytest.mark.parametrize("end", [b"", END])
@pytest.mark.parametrize("lost", [6, 9, 14, 25, 60])
@pytest.mark.parametrize(
    "name", ["baseline", "grey", "CMYK", "not subsampled", "RGB without YCbCr"]
)
def test_few_zeros_in_place_of_the_last_bytes_are_truncated(name, lost, end):
    cut = HUFFMAN[name][: -len(END) - lost]
    for zeros in (lost, lost + 2, 4 * lost):
        assert failure(cut + bytes(zeros) + end).status == "truncated"


# Damage ------------------------------------------------------------------------------------------


def test_restart_markers_out_of_order_are_corrupt():
    content = HUFFMAN["restart markers"]
    swapped = content.replace(b"\xff\xd2", b"\xff\x01").replace(b"\xff\xd5", b"\xff\xd2")
    error = failure(swapped.replace(b"\xff\x01", b"\xff\xd5"))
    assert error.status == "corrupt"
    assert "instead of RST" in str(error)


def test_missing_data_inside_the_picture_is_corrupt():
    content = HUFFMAN["restart markers"]
    first = content.index(b"\xff\xd0", scan_starts(content)[0])
    assert failure(content[: first - 20] + content[first:]).status == "corrupt"


def test_missing_data_of_a_restart_interval_is_truncated():
    content = HUFFMAN["restart markers"]
    last = max(match.start() for match in re.finditer(rb"\xff[\xd0-\xd7]", content))
    assert failure(content[:last] + END).status == "truncated"


def test_surplus_data_before_the_end_marker_is_corrupt():
    content = HUFFMAN["baseline"]
    at = scan_starts(content)[0] + 14
    error = failure(content[:-2] + content[at : at + 300].replace(b"\xff", b"\xfe") + END)
    assert error.status == "corrupt"
    assert "extraneous bytes" in str(error)


def test_scan_header_that_libjpeg_only_warns_about_is_accepted():
    content = bytearray(HUFFMAN["baseline"])
    at = scan_starts(bytes(content))[0]
    content[at + 11 : at + 14] = b"\0\0\0"  # as written by some cameras
    assert np.array_equal(pixels(decode(bytes(content))), pixels(decode(HUFFMAN["baseline"])))
    assert failure(bytes(content[:-500]) + END).status == "truncated"


@quick
@given(
    st.sampled_from(sorted(FILES)),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=6),
    st.sampled_from([None, (8, 8)]),
)
def test_changed_bytes_give_a_picture_or_an_image_error(name, changes, draft):
    changed = bytearray(FILES[name])
    for share, value in changes:
        changed[int(share * len(changed))] = value
    result = decoded_or_failed(bytes(changed), max_pixels=1_000_000, draft=draft)
    if isinstance(result, Picture) and draft is None:
        assert result.image.size == (result.width, result.height)


@quick
@given(st.binary(max_size=300), st.sampled_from([b"", HUFFMAN["progressive"][:200]]))
def test_any_bytes_of_markers_are_read_without_an_exception(content, start):
    data = JpegData(start + content)
    assert data.scans >= 0
    assert data.without_trailer.endswith(END)


# Reported files ----------------------------------------------------------------------------------


def test_reported_jpegs_get_the_right_status(shared_data):
    folder = shared_data / "trials" / "jpeg-end"
    whole = pixels(decode((folder / "0_whole.jpg").read_bytes()))
    for name in ("1_no_eoi.jpg", "4_no_eoi_then_ff10.jpg"):
        assert np.array_equal(pixels(decode((folder / name).read_bytes())), whole)
    cut = (folder / "6_really_truncated.jpg").read_bytes()
    assert failure(cut).status == "truncated"
    assert failure(cut + END).status == "truncated"


def test_jpeg_ls_and_a_height_after_the_data_are_reported_as_unsupported() -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    pixels = np.asarray(picture(20, 20, 3).convert("L"))
    error = failure(imagecodecs.jpegls_encode(pixels))
    assert (error.status, str(error)) == ("unsupported", "JPEG: JPEG-LS: not decoded")
    content = bytearray(encode(picture(20, 20, 3), "JPEG"))
    height_at = content.index(b"\xff\xc0") + 5
    content[height_at : height_at + 2] = b"\0\0"
    error = failure(bytes(content))
    assert error.status == "unsupported"
    assert "whose height follows its data (DNL)" in str(error)


def test_zeros_do_not_replace_blocks_that_a_cut_removed() -> None:
    taken, tried = 0, 0
    for seed, (quality, subsampling) in itertools.product(
        range(5), [(100, 0), (95, 0), (90, 2), (75, 2)]
    ):
        content = encode(picture(64, 48, seed), "JPEG", quality=quality, subsampling=subsampling)
        for cut, zeros in itertools.product(range(1, 30, 2), (1, 3, 100)):
            tried += 1
            taken += isinstance(decoded_or_failed(content[: -2 - cut] + bytes(zeros)), Picture)
    # If zeros complete the cut data exactly to the bit, it cannot be distinguished from a picture.
    assert taken / tried < 0.1


@pytest.mark.parametrize("colour", ["white", "black", "grey", "navy", "#010203"])
def test_a_flat_picture_may_end_with_its_own_zeros(colour: str) -> None:
    for size, subsampling, tail in itertools.product(range(8, 72, 8), (0, 1, 2), (b"", bytes(50))):
        flat = Image.new("RGB", (size, 8), colour)
        content = encode(flat, "JPEG", quality=90, subsampling=subsampling)
        assert isinstance(decoded_or_failed(content[:-2] + tail), Picture)
        assert isinstance(decoded_or_failed(content + tail), Picture)


def ending_in_a_zero(subsampling: int) -> bytes:
    """A JPEG whose last blocks have one colour and whose data ends with a zero byte."""
    for width in range(64, 256):
        content = encode(
            Image.new("RGB", (width, 64), (width, 0, 0)), "JPEG", subsampling=subsampling
        )
        if content.endswith(b"\0" + END) and content[-4:-2] != bytes(2):
            return content
    raise AssertionError("no picture ends in a zero byte")


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_removed_flat_blocks_are_not_detected_if_the_rest_ends_like_them(subsampling):
    flat = ending_in_a_zero(subsampling)[:-2]
    assert isinstance(decoded_or_failed(flat + END), Picture)
    for at in range(len(flat) - 40, len(flat) - 1):
        if flat[at] == 0:
            assert failure(flat[: at + 1] + END).status == "truncated"


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_picture_that_ends_in_flat_blocks_is_decoded_once(subsampling, monkeypatch):
    calls = []
    decode_jpeg = simplejpeg.decode_jpeg

    def counted(*args, **named):
        calls.append(args)
        return decode_jpeg(*args, **named)

    monkeypatch.setattr(simplejpeg, "decode_jpeg", counted)
    assert isinstance(decoded_or_failed(ending_in_a_zero(subsampling)), Picture)
    assert len(calls) == 1
