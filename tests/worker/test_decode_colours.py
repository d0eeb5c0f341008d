"""Every mode, depth and kind of transparency becomes the correct RGB colours."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image, ImageChops

from decoding import grey, pixels
from drawn import encode, picture, png
from pomona.worker.colours import to_rgb
from pomona.worker.decode import decode

# Colours -----------------------------------------------------------------------------------------


def test_grey_jpeg_becomes_rgb():
    image = picture().convert("L")
    result = pixels(decode(encode(image, "JPEG", quality=95)))
    assert np.abs(result.astype(int) - np.asarray(image)[..., None]).max() < 8


def test_black_and_white_becomes_rgb():
    result = pixels(decode(encode(picture().convert("1"), "PNG")))
    assert np.array_equal(result, np.asarray(picture().convert("1").convert("RGB")))


def test_palette_becomes_rgb():
    image = picture().quantize(16)
    assert np.array_equal(pixels(decode(encode(image, "PNG"))), np.asarray(image.convert("RGB")))


def test_cmyk_jpeg_keeps_its_colours_and_is_not_inverted():
    result = pixels(decode(encode(picture().convert("CMYK"), "JPEG", quality=95)))
    assert np.abs(result - np.asarray(picture()).astype(int)).mean() < 5


def test_cmyk_jpeg_marked_as_ycck_keeps_its_colours():
    # Adobe stores inks inverted, then converted to brightness and colour.
    stored = ImageChops.invert(picture()).convert("YCbCr")
    bands = [ImageChops.invert(band) for band in stored.split()]  # Pillow inverts them as well
    ycck = encode(Image.merge("CMYK", [*bands, Image.new("L", picture().size)]), "JPEG", quality=95)
    marker = ycck.index(b"Adobe")  # its last byte, at offset 11: 0 for CMYK, 2 for YCCK
    assert ycck[marker + 11] == 0
    result = pixels(decode(ycck[: marker + 11] + b"\2" + ycck[marker + 12 :]))
    assert np.abs(result - np.asarray(picture()).astype(int)).mean() < 5


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "RGBX"])
def test_colour_space_of_a_tiff_is_converted_to_rgb(mode):
    result = pixels(decode(encode(picture().convert(mode), "TIFF")))
    assert np.abs(result - np.asarray(picture()).astype(int)).mean() < 3


def test_lab_is_converted_to_rgb():
    red = Image.new("LAB", (4, 4), (137, 208, 195))  # for L 53.7, a 80, b 67
    assert np.abs(pixels(decode(encode(red, "TIFF"))) - np.array([255, 0, 0])).max() < 16


@pytest.mark.parametrize(
    "mode",
    [
        *("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB"),
        *("HSV", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"),
    ],
)
def test_every_mode_of_pillow_becomes_rgb(mode):
    image = Image.new(mode, (3, 2))
    assert to_rgb(image, "").mode == "RGB"


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("PNG", "RGBA"),
        ("WEBP", "RGBA"),
        ("TIFF", "RGBA"),
        ("ICO", "RGBA"),
        ("PNG", "LA"),
        ("TIFF", "LA"),
    ],
)
def test_transparency_is_composited_over_white(name, mode):
    image = Image.new(mode, (16, 16), (0, 0) if mode == "LA" else (0, 0, 0, 0))
    half = (0, 128) if mode == "LA" else (0, 0, 0, 128)
    image.paste(half, (8, 0, 16, 16))
    options = {"lossless": True} if name == "WEBP" else {}
    result = pixels(decode(encode(image, name, **options)))
    assert (result[:, :8] == 255).all()
    assert (result[:, 8:] == 127).all()


@pytest.mark.parametrize("mode", ["La", "RGBa"])
def test_premultiplied_transparency_is_composited_over_white(mode):
    straight = Image.new("LA" if mode == "La" else "RGBA", (2, 2), 0)
    straight.putalpha(0)
    result = to_rgb(straight.convert(mode), "")
    assert (np.asarray(result) == 255).all()


def test_transparent_palette_entry_is_composited_over_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    result = pixels(decode(encode(image, "PNG", transparency=0)))
    assert result.tolist() == [[[255, 255, 255], [40, 50, 60]]]
    half = pixels(decode(encode(image, "PNG", transparency=b"\x80\xff")))
    assert half.tolist() == [[[132, 137, 142], [40, 50, 60]]]


def test_transparent_gif_pixel_is_composited_over_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    result = pixels(decode(encode(image, "GIF", transparency=0)))
    assert result.tolist() == [[[255, 255, 255], [40, 50, 60]]]


@pytest.mark.parametrize(
    ("depth", "row", "colour", "expected"),
    [
        (1, b"\x40", 0, [255, 255]),
        (2, b"\x40", 1, [255, 0]),
        (4, b"\x70", 7, [255, 0]),
        (8, b"\x70\x07", 0x70, [255, 7]),
        (16, b"\x80\x01\x80\x81", 0x8001, [255, 128]),
    ],
)
def test_grey_declared_transparent_by_a_png_is_composited_over_white(depth, row, colour, expected):
    chunk = (b"tRNS", struct.pack(">H", colour))
    result = pixels(decode(png((2, 1), depth, 0, [row], before=[chunk])))
    assert result[0, :, 0].tolist() == expected


@pytest.mark.parametrize(("depth", "unit"), [(8, 1), (16, 257)])
def test_colour_declared_transparent_by_a_png_is_composited_over_white(depth, unit):
    levels = [10, 20, 30, 40, 50, 60]
    row = b"".join(struct.pack(">B" if depth == 8 else ">H", level * unit) for level in levels)
    chunk = (b"tRNS", struct.pack(">3H", *(level * unit for level in levels[:3])))
    result = pixels(decode(png((2, 1), depth, 2, [row], before=[chunk])))
    assert result.tolist() == [[[255, 255, 255], [40, 50, 60]]]


# Greys of more than 8 bits -----------------------------------------------------------------------

EVERY_16_BIT_GREY = np.arange(65536, dtype=np.uint16).reshape(256, 256)
AS_8_BIT = np.rint(EVERY_16_BIT_GREY / 257).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "order", "options"),
    [
        ("PNG", "<", {}),
        ("PPM", "<", {}),
        ("TIFF", "<", {}),
        ("TIFF", ">", {}),
        ("TIFF", "<", {"compression": "tiff_lzw"}),
        ("TIFF", ">", {"compression": "tiff_lzw"}),
    ],
)
def test_16_bit_grey_is_scaled_by_its_full_range(name, order, options):
    image = Image.fromarray(EVERY_16_BIT_GREY.astype(f"{order}u2"))
    result = pixels(decode(encode(image, name, **options)))
    assert np.array_equal(result, np.stack([AS_8_BIT] * 3, axis=-1))


@pytest.mark.parametrize(
    ("mode", "levels", "expected"),
    [
        ("I", [0, 257, 65535], [0, 1, 255]),
        ("I", [0, 65536, 131072], [0, 128, 255]),
        ("I", [-100, 0, 100], [0, 128, 255]),
        ("I", [-(2**31), 0, 2**31 - 1], [0, 128, 255]),
        ("I", [-5, -5, -5], [0, 0, 0]),
        ("F", [0, 0.5, 1], [0, 128, 255]),
        ("F", [0, 1.2, 254.6], [0, 1, 255]),
        ("F", [-1, 0, 1], [0, 128, 255]),
        ("F", [0, 500, 1000], [0, 128, 255]),
        ("F", [-3e38, 0, 3e38], [0, 128, 255]),
        ("F", [np.nan, 0.5, 1], [0, 128, 255]),
        ("F", [-np.inf, 0.5, np.inf], [0, 128, 255]),
        ("F", [-np.inf, np.nan, np.inf], [0, 0, 255]),
        ("F", [np.nan, np.nan, np.nan], [0, 0, 0]),
    ],
)
def test_32_bit_grey_is_scaled_and_not_clipped(mode, levels, expected):
    result = pixels(decode(encode(grey([levels], mode), "TIFF")))
    assert result[0].tolist() == [[level] * 3 for level in expected]
