"""BMP, DIB, ICO and TGA: alpha channels never filled in, and formats without a magic number."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from decoding import AVIF, decoded_or_failed, failure, pixels, quick
from drawn import encode, picture
from pomona.worker.decode import decode

LEVELS = np.asarray(picture(13, 10))  # (H, W, 3) uint8
HEADERS = {"V3": 56, "V4": 108, "V5": 124}
MASKS = {  # bits per pixel, then the masks of red, green, blue and alpha
    "BGRA": (32, 0xFF0000, 0xFF00, 0xFF, 0xFF000000),
    "RGBA": (32, 0xFF, 0xFF00, 0xFF0000, 0xFF000000),
    "ABGR": (32, 0xFF000000, 0xFF0000, 0xFF00, 0xFF),
    "BGAR": (32, 0xFF000000, 0xFF00, 0xFF, 0xFF0000),
    "1555": (16, 0x7C00, 0x3E0, 0x1F, 0x8000),
    "4444": (16, 0xF00, 0xF0, 0xF, 0xF000),
    "5551": (16, 0xF800, 0x7C0, 0x3E, 1),
    "2 and 10 bits": (32, 0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000),
    "ARGB": (32, 0xFF00, 0xFF0000, 0xFF000000, 0xFF),
}


def dib(
    alpha: int,
    kind: str = "BGRA",
    header: int = 124,
    has_alpha: bool = True,
    bottom_up: bool = True,
) -> bytes:
    """A bitmap without a file header, its pixels packed with bit masks; alpha in 0..255."""
    bits, *masks = MASKS[kind]
    height, width, _ = LEVELS.shape
    values = np.zeros((height, width), np.uint32)
    for level, mask in zip((*np.moveaxis(LEVELS, 2, 0), np.uint8(alpha)), masks, strict=True):
        lowest = (mask & -mask).bit_length() - 1
        levels = np.rint(np.asarray(level) / 255 * (mask >> lowest))
        values |= levels.astype(np.uint32) << lowest
    rows = values.astype("<u4" if bits == 32 else "<u2")
    if bits == 16:
        rows = np.pad(rows, ((0, 0), (0, width % 2)))  # to a multiple of 4 bytes
    data = (rows[::-1] if bottom_up else rows).tobytes()
    masks[3] *= has_alpha
    size = height if bottom_up else 2**32 - height
    fields = struct.pack("<IIIHHIIIIII", header, width, size, 1, bits, 3, len(data), 0, 0, 0, 0)
    return (fields + struct.pack("<4I", *masks)).ljust(header, b"\0") + data


def bmp(*arguments: object, **options: object) -> bytes:
    body = dib(*arguments, **options)
    start = 14 + struct.unpack("<I", body[:4])[0]
    return b"BM" + struct.pack("<IHHI", 14 + len(body), 0, 0, start) + body


def icon(alpha: int, mask: np.ndarray | None, bpp: int = 32) -> bytes:
    """An icon of 32-bit pixels, followed by its mask, in which 1 is transparent."""
    height, width, _ = LEVELS.shape
    levels = np.dstack([LEVELS[..., ::-1], np.full((height, width), alpha, np.uint8)])[::-1]
    body = struct.pack("<IIIHHIIIIII", 40, width, 2 * height, 1, 32, 0, 0, 0, 0, 0, 0)
    body += levels.tobytes()
    if mask is not None:
        padded = np.pad(mask[::-1], ((0, 0), (0, 32 - width)))
        body += np.packbits(padded, axis=1).tobytes()
    entry = struct.pack("<BBBBHHII", width, height, 0, 0, 1, bpp, len(body), 22)
    return struct.pack("<HHH", 0, 1, 1) + entry + body


def tga(alpha: int, attribute_bits: int = 8, kind: int = 2) -> bytes:
    height, width, _ = LEVELS.shape
    levels = np.dstack([LEVELS[..., ::-1], np.full((height, width), alpha, np.uint8)])
    header = struct.pack(
        "<BBBHHBHHHHBB", 0, 0, kind, 0, 0, 0, 0, 0, width, height, 32, 0x20 | attribute_bits
    )
    return header + levels.tobytes()


# Alpha -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bottom_up", [True, False])
@pytest.mark.parametrize("header", sorted(HEADERS))
@pytest.mark.parametrize("kind", sorted(MASKS))
def test_all_zero_alpha_of_a_bmp_is_ignored(kind, header, bottom_up):
    options = {"kind": kind, "header": HEADERS[header], "bottom_up": bottom_up}
    without = pixels(decode(bmp(0, **options, has_alpha=False)))
    highest = 2 ** min(8, *(mask.bit_count() for mask in MASKS[kind][1:4])) - 1
    assert np.abs(without.astype(int) - LEVELS).max() <= 255 // highest
    for alpha in (0, 255):
        assert np.array_equal(pixels(decode(bmp(alpha, **options))), without)
        assert np.array_equal(pixels(decode(dib(alpha, **options))), without)


@pytest.mark.parametrize("kind", ["4444", "2 and 10 bits", "BGRA"])
def test_alpha_with_any_bit_mask_is_composited_over_white(kind):
    opaque = pixels(decode(bmp(255, kind))).astype(int)
    alpha = {"4444": 51, "2 and 10 bits": 85, "BGRA": 51}[kind]
    expected = (opaque * alpha + 255 * (255 - alpha)) // 255
    assert np.abs(pixels(decode(bmp(alpha, kind))) - expected).max() <= 1


@pytest.mark.parametrize("has_alpha", [True, False])
@pytest.mark.parametrize("bits", [16, 32])
def test_masks_after_a_40_byte_header_are_read(bits, has_alpha):
    kind = "1555" if bits == 16 else "ARGB"
    v5 = dib(255, kind)
    masks = v5[40:56] if has_alpha else v5[40:52]
    compression = struct.pack("<I", 6 if has_alpha else 3)
    v1 = struct.pack("<I", 40) + v5[4:16] + compression + v5[20:40] + masks + v5[124:]
    assert np.array_equal(pixels(decode(v1)), pixels(decode(v5)))


@pytest.mark.parametrize("kind", sorted(MASKS))
def test_part_of_a_bitmap_with_masks_is_truncated(kind):
    for content in (bmp(255, kind), dib(255, kind)):
        assert failure(content[: len(content) // 2]).status == "truncated"


@pytest.mark.parametrize("masks", [(0xF0, 0xF, 0xF0F00, 0), (0xFF, 0xFF, 0xFF00, 0), (0, 1, 2, 4)])
def test_invalid_masks_are_unsupported(masks):
    content = bytearray(bmp(255))
    content[54:70] = struct.pack("<4I", *masks)
    assert failure(bytes(content)).status == "unsupported"


def test_alpha_of_a_bmp_with_a_nonzero_value_is_composited_over_white():
    half = pixels(decode(bmp(128))).astype(int)
    assert np.abs(half - (LEVELS.astype(int) * 128 + 255 * 127) // 255).max() <= 1
    some = bytearray(bmp(0))
    some[-1] = 1  # the last pixel in the file, at the top right
    expected = np.full_like(LEVELS, 255)
    result = pixels(decode(bytes(some)))
    assert np.abs(result.astype(int) - expected).max() <= 1


def test_all_zero_alpha_of_an_icon_is_ignored_and_its_mask_applies():
    mask = np.zeros(LEVELS.shape[:2], bool)
    assert np.array_equal(pixels(decode(icon(0, None))), LEVELS)
    assert np.array_equal(pixels(decode(icon(0, mask))), LEVELS)
    mask[2:5, 3:9] = True
    expected = np.where(mask[..., None], 255, LEVELS)
    assert np.array_equal(pixels(decode(icon(0, mask))), expected)
    assert np.array_equal(pixels(decode(icon(255, mask))), LEVELS)  # its alpha is set


@pytest.mark.parametrize("bpp", [0, 8, 24])
def test_alpha_of_an_icon_applies_for_any_depth_in_its_directory(bpp):
    opaque = np.zeros(LEVELS.shape[:2], bool)
    assert np.array_equal(pixels(decode(icon(0, opaque, bpp))), LEVELS)
    faint = icon(51, opaque, 32)
    assert np.array_equal(pixels(decode(icon(51, opaque, bpp))), pixels(decode(faint)))
    assert pixels(decode(faint)).min() > 200


@pytest.mark.parametrize("attribute_bits", [0, 8])
def test_all_zero_alpha_of_a_tga_is_ignored(attribute_bits):
    assert np.array_equal(pixels(decode(tga(0, attribute_bits))), LEVELS)


def test_alpha_of_a_tga_applies_if_its_header_declares_alpha():
    assert np.array_equal(pixels(decode(tga(7, attribute_bits=0))), LEVELS)
    assert pixels(decode(tga(7, attribute_bits=8))).min() > 245


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", AVIF, "ICO", "JPEG2000"])
def test_fully_transparent_picture_is_white_in_formats_with_deliberate_alpha(form):
    invisible = picture(16, 16).convert("RGBA")
    invisible.putalpha(0)
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    if form == "ICO":
        options = {"sizes": [(16, 16)]}  # contains a PNG
    assert pixels(decode(encode(invisible, form, **options))).min() >= 250


# Formats without a magic number ------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_bitmap_without_a_file_header_is_read(mode):
    image = picture().convert(mode)
    decoded = decode(encode(image, "DIB"))
    assert (decoded.format, decoded.width, decoded.height) == ("DIB", 48, 32)
    assert np.array_equal(pixels(decoded), pixels(decode(encode(image, "BMP"))))


@pytest.mark.parametrize("options", [{}, {"compression": "tga_rle"}])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "LA"])
def test_tga_is_read(mode, options):
    image = picture().convert("L" if mode == "LA" else "RGB").convert(mode)
    content = encode(image, "TGA", **options)
    for decoded in (decode(content), decode(without_footer(content))):
        assert (decoded.format, decoded.width, decoded.height) == ("TGA", 48, 32)
        assert np.array_equal(pixels(decoded), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("options", [{}, {"compression": "tga_rle"}])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("bits", [15, 16, 24, 32])
def test_unused_colour_map_of_a_tga_is_skipped(mode, options, bits):
    content = encode(picture().convert(mode), "TGA", **options)
    assert content[0] == content[1] == 0
    declared = b"\5\1" + content[2:3] + struct.pack("<HHB", 0, 7, bits) + content[8:18]
    with_map = declared + b"hello" + bytes(range(7 * -(-bits // 8))) + content[18:]
    for decoded in (decode(with_map), decode(without_footer(with_map))):
        assert np.array_equal(pixels(decoded), pixels(decode(content)))


def without_footer(content: bytes) -> bytes:
    """A TGA without a footer, as written by programs older than TGA 2."""
    return content[:-26] if content.endswith(b"TRUEVISION-XFILE.\0") else content


@pytest.mark.parametrize("form", ["TGA", "DIB"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_part_of_a_file_without_a_magic_number_is_truncated(form, share):
    content = without_footer(encode(picture(), form))
    error = failure(content[: int(len(content) * share)])
    assert (error.status, error.format) == ("truncated", form)


@pytest.mark.parametrize("form", ["TGA", "DIB"])
def test_file_without_a_magic_number_is_too_large_before_decoding(form):
    error = failure(encode(picture(), form), max_pixels=48 * 32 - 1)
    assert (error.status, error.width, error.height) == ("too_large", 48, 32)


@quick
@given(st.text(min_size=1, max_size=200))
@example("b")
def test_text_is_not_mistaken_for_a_format_without_a_magic_number(text):
    assert failure(f"note: {text}".encode()).status == "unsupported"


@quick
@given(
    st.sampled_from(["TGA", "DIB", "ICO", "bmp", "icon"]),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6),
)
def test_changed_bytes_give_a_picture_or_an_image_error(form, changes):
    drawn = {"bmp": lambda: bmp(0), "icon": lambda: icon(0, np.zeros(LEVELS.shape[:2], bool))}
    valid = drawn[form]() if form in drawn else encode(picture(16, 16), form)
    changed = bytearray(valid)
    for at, value in changes:
        changed[at % len(changed)] = value
    decoded_or_failed(bytes(changed), max_pixels=1_000_000)


# Reported files ----------------------------------------------------------------------------------


def test_reported_bitmaps_equal_their_counterparts(shared_data):
    folder = shared_data / "trials" / "bmp-alpha"
    plain = (folder / "0_alpha_255.bmp").read_bytes()
    expected = np.asarray(Image.open(io.BytesIO(plain)).convert("RGB"))
    for name in ("0_alpha_255.bmp", "1_v5_alpha_0.bmp"):
        assert np.array_equal(pixels(decode((folder / name).read_bytes())), expected)


def test_failure_reason_is_never_an_internal_python_error() -> None:
    error = failure(b"\0\0\1\0\0\0" + bytes(16))  # an icon without entries
    assert error.status == "corrupt"
    assert str(error) == "ICO: the header is damaged: a number or a text in it is invalid"
