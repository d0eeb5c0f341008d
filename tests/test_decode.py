import io
import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageFile, ImageOps, features

import pomona.decode
from drawn import corners, encode, picture, png, turned, with_size
from pomona.decode import FAILURES, MAX_PIXELS, Picture, decode
from pomona.errors import ImageError
from pomona.pillow import quiet_codecs

ODD = Path(__file__).parents[2] / "shared" / "data" / "odd"
WHITE = (255, 255, 255)

AVIF = pytest.param("AVIF", marks=pytest.mark.skipif(not features.check("avif"), reason="no AVIF"))
LOSSLESS = {
    "PNG": {},
    "BMP": {},
    "TIFF": {},
    "PPM": {},
    "WEBP": {"lossless": True},
    "JPEG2000": {},
    "ICO": {"sizes": [(48, 32)]},
}
FILES = {name: encode(picture(), name, **options) for name, options in LOSSLESS.items()}
FILES["JPEG"] = encode(picture(), "JPEG")
FILES["GIF"] = encode(picture(), "GIF")
FILES["TIFF in JPEG strips"] = encode(picture(), "TIFF", compression="jpeg")
FILES["TIFF in LZW strips"] = encode(picture(), "TIFF", compression="tiff_lzw")
FILES["progressive JPEG"] = encode(picture(), "JPEG", progressive=True)

any_file = st.sampled_from(sorted(FILES)).map(FILES.__getitem__)
quick = settings(deadline=None, max_examples=150)


def pixels(found: Picture) -> np.ndarray:
    assert found.image.mode == "RGB"
    return np.asarray(found.image)


def failure(content: bytes, **options: object) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(content, **options)
    message = str(caught.value)
    assert caught.value.status in FAILURES
    assert message.isprintable()  # one line, too
    assert 0 < len(message) <= 200
    assert "object at 0x" not in message
    return caught.value


def decoded_or_failed(content: bytes, **options: object) -> Picture | ImageError:
    with quiet_codecs():
        try:
            found = decode(content, **options)
        except ImageError:
            return failure(content, **options)
    pixels(found)
    return found


def grey(levels: list[list[float]], mode: str) -> Image.Image:
    kinds = {"I;16": np.uint16, "I;16B": ">u2", "I": np.int32, "F": np.float32}
    return Image.fromarray(np.asarray(levels, kinds[mode]))


# What the bytes are ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(LOSSLESS))
def test_lossless_file_gives_its_pixels_and_says_what_it_is(name):
    found = decode(FILES[name])
    assert np.array_equal(pixels(found), np.asarray(picture()))
    assert (found.format, found.width, found.height) == (name, 48, 32)
    assert found.orientation is None


@pytest.mark.parametrize("name", ["JPEG", "GIF", AVIF])
def test_lossy_file_gives_nearly_its_pixels_and_says_what_it_is(name):
    found = decode(encode(picture(), name))
    assert np.abs(pixels(found) - np.asarray(picture()).astype(int)).mean() < 10
    assert (found.format, found.width, found.height) == (name, 48, 32)


def test_memoryview_is_as_good_as_bytes():
    content = memoryview(b"..." + FILES["PNG"])[3:]
    assert np.array_equal(pixels(decode(content)), np.asarray(picture()))


def test_multi_picture_jpeg_is_a_jpeg():
    content = encode(picture(), "MPO", save_all=True, append_images=[picture(seed=1)])
    found = decode(content)
    assert found.format == "JPEG"
    assert np.array_equal(pixels(found), np.asarray(Image.open(io.BytesIO(content))))


def test_broken_index_of_further_pictures_does_not_spoil_the_first():
    content = encode(picture(), "MPO", save_all=True, append_images=[picture(seed=1)])
    broken = content.replace(b"MPF\0II", b"MPF\0??")
    assert np.array_equal(pixels(decode(broken)), pixels(decode(content)))


def test_no_bytes_are_empty():
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
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
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
def test_what_is_no_image_is_unsupported_and_named_where_its_first_bytes_tell(content, words):
    refused = failure(content)
    if not content.startswith(b"P5"):  # the magic number of a grey PPM
        assert refused.status == "unsupported"
        assert words in str(refused)


def test_formats_without_a_magic_number_are_not_guessed():
    assert failure(encode(picture(), "TGA")).status == "unsupported"


def test_postscript_is_never_run(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *_: pytest.fail("a program was started"))
    assert failure(encode(picture(), "EPS")).status == "unsupported"


def test_kind_of_tiff_that_pillow_cannot_read_is_unsupported():
    content = bytearray(encode(picture(), "TIFF"))
    at = content.index(struct.pack("<HHI", 259, 3, 1)) + 8  # the tag for the compression
    content[at : at + 2] = struct.pack("<H", 50002)
    refused = failure(bytes(content))
    assert (refused.status, refused.format) == ("unsupported", "TIFF")
    assert "compression 50002" in str(refused)


def test_jpeg_of_twelve_bits_is_unsupported():
    content = FILES["JPEG"].replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c")
    assert failure(content).status == "unsupported"


# Too large ---------------------------------------------------------------------------------------


def gif_with_a_frame_larger_than_its_screen() -> bytes:
    content = bytearray(FILES["GIF"])
    at = content.rindex(b",\0\0\0\0\x30\0\x20\0")
    content[at + 5 : at + 9] = struct.pack("<HH", 65535, 65535)
    dispose = b"!\xf9\x04\x08\0\0\0\0"  # Pillow fills such a frame while it reads the header
    return bytes(content[:at] + dispose + content[at:])


def icon_with_a_png_larger_than_it_says() -> bytes:
    inner = bytearray(encode(Image.new("1", (1, 1)), "PNG"))
    inner[16:24] = struct.pack(">II", 65535, 65535)
    inner[29:33] = struct.pack(">I", zlib.crc32(inner[12:29]))
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 1, 1, 0, 0, 1, 1, len(inner), 22) + bytes(inner)


def webp_with_a_large_canvas() -> bytes:
    content = bytearray(encode(picture(), "WEBP", exif=b"Exif\0\0II*\0"))
    at = content.index(b"VP8X") + 12
    content[at : at + 6] = (16382).to_bytes(3, "little") * 2
    return bytes(content)


def tiff_with_large_tags() -> bytes:
    content = bytearray(FILES["TIFF"])
    for tag, value in ((256, 48), (257, 32)):
        at = content.index(struct.pack("<HHIH", tag, 4, 1, value)) + 8
        content[at : at + 4] = struct.pack("<I", 60000)
    return bytes(content)


@pytest.mark.parametrize("name", sorted(FILES))
def test_more_pixels_than_the_limit_are_refused_before_decoding(name, monkeypatch):
    monkeypatch.setattr(pomona.decode, "_picture", lambda *_: pytest.fail("was decoded"))
    refused = failure(FILES[name], max_pixels=48 * 32 - 1)
    assert refused.status == "too_large"
    assert "1536 pixels, the limit is 1535: raise it with --max-pixels" in str(refused)
    if name not in ("ICO", "WEBP"):  # which Pillow refuses itself, before it has told their size
        assert (refused.width, refused.height) == (48, 32)
    assert refused.format == name.replace("progressive ", "").split()[0]


@pytest.mark.parametrize("name", sorted(FILES))
def test_as_many_pixels_as_the_limit_are_decoded(name):
    assert decode(FILES[name], max_pixels=48 * 32).width == 48


@pytest.mark.parametrize(
    "bomb",
    [
        gif_with_a_frame_larger_than_its_screen,
        icon_with_a_png_larger_than_it_says,
        webp_with_a_large_canvas,
        tiff_with_large_tags,
    ],
)
def test_bomb_inside_a_small_file_is_too_large(bomb):
    assert failure(bomb()).status == "too_large"


def test_default_limit_is_178_million_pixels():
    at, above = with_size(FILES["JPEG"], 17_800, 10_000), with_size(FILES["JPEG"], 17_801, 10_000)
    assert MAX_PIXELS == 178_000_000
    assert failure(above).status == "too_large"
    assert failure(at[:-600]).status == "truncated"


def test_size_that_no_table_holds_is_left_out():
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 2**32 - 1, 2, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    refused = failure(FILES["PNG"][:8] + chunk + FILES["PNG"][33:])
    assert (refused.status, refused.width, refused.height) == ("too_large", None, None)


def test_text_that_unpacks_to_gigabytes_is_refused():
    bomb = b"Comment\0\0" + zlib.compress(bytes(2_000_000))
    rows = [bytes(3)]
    assert failure(png((1, 1), 8, 2, rows, before=[(b"zTXt", bomb)])).status == "corrupt"


@pytest.mark.parametrize("limit", [1, 10, None, float("inf")])
@pytest.mark.parametrize("name", sorted(FILES))
def test_pillows_own_limit_neither_counts_nor_changes(name, limit, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert decode(FILES[name]).width == 48
    assert failure(FILES[name], max_pixels=1000).status == "too_large"
    assert limit == Image.MAX_IMAGE_PIXELS


def test_each_thread_has_its_own_limit():
    limits = [100, 48 * 32] * 20

    def one(limit: int) -> bool:
        return isinstance(decoded_or_failed(FILES["TIFF"], max_pixels=limit), Picture)

    before = Image.MAX_IMAGE_PIXELS
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, limits)) == [limit > 100 for limit in limits]
    assert before == Image.MAX_IMAGE_PIXELS


def test_other_threads_keep_pillows_limit_while_one_decodes(monkeypatch):
    inside, leave = threading.Event(), threading.Event()

    def wait(*_: object) -> None:
        inside.set()
        leave.wait(10)

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    monkeypatch.setattr(pomona.decode, "_picture", wait)
    thread = threading.Thread(target=decode, args=(FILES["PNG"],))
    thread.start()
    try:
        assert inside.wait(10)
        with pytest.raises(Image.DecompressionBombWarning):
            Image.open(io.BytesIO(FILES["PNG"]))
        with pytest.raises(Image.DecompressionBombError):
            Image.open(io.BytesIO(encode(picture(100, 100), "PNG")))
        Image.open(io.BytesIO(encode(picture(10, 10), "PNG")))
    finally:
        leave.set()
        thread.join()
    assert Image.MAX_IMAGE_PIXELS == 1000


# Truncated and corrupt ---------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("name", sorted(FILES))
def test_part_of_a_file_is_truncated(name, share):
    with quiet_codecs():
        refused = failure(FILES[name][: int(len(FILES[name]) * share)])
    assert refused.status == "truncated"
    assert refused.format is not None


def test_jpeg_2000_cut_between_tiles_is_truncated_though_pillow_takes_it_for_whole():
    content = encode(picture(), "JPEG2000", tile_size=(16, 16))
    part = content[: content.rindex(b"\xff\x90") + 2]  # with the marker of the last tile
    Image.open(io.BytesIO(part)).load()
    assert failure(part).status == "truncated"


def test_jpeg_2000_without_boxes_must_end_as_one_with_boxes():
    content = FILES["JPEG2000"]
    codestream = content[content.index(b"\xff\x4f\xff\x51") :]
    assert decode(codestream).format == "JPEG2000"
    assert failure(codestream[:-2]).status == "truncated"


def test_truncated_file_says_how_large_the_picture_would_be():
    refused = failure(FILES["JPEG"][:-100])
    assert (refused.width, refused.height, refused.format) == (48, 32, "JPEG")


def test_pillows_switch_for_half_grey_pictures_neither_counts_nor_changes(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert failure(FILES["JPEG"][:-100]).status == "truncated"
    assert failure(FILES["PNG"][:-100]).status == "truncated"
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_flipped_bit_in_a_png_header_is_corrupt():
    content = bytearray(FILES["PNG"])
    content[18] ^= 1
    refused = failure(bytes(content))
    assert (refused.status, refused.format) == ("corrupt", "PNG")
    assert "checksum" in str(refused)


def test_garbage_in_the_data_is_corrupt_and_not_truncated():
    content = bytearray(FILES["PNG"])
    at = content.index(b"IDAT") + 10
    content[at : at + 200] = bytes(200)
    refused = failure(bytes(content))
    assert (refused.status, refused.width, refused.height) == ("corrupt", 48, 32)


def test_garbage_after_a_tiff_header_is_corrupt_and_not_truncated():
    content = bytearray(FILES["TIFF in LZW strips"])
    content[8:200] = bytes(192)
    with quiet_codecs():
        assert failure(bytes(content)).status == "corrupt"


# Colours -----------------------------------------------------------------------------------------


def test_grey_jpeg_becomes_rgb():
    image = picture().convert("L")
    found = pixels(decode(encode(image, "JPEG", quality=95)))
    assert np.abs(found.astype(int) - np.asarray(image)[..., None]).max() < 8


def test_black_and_white_becomes_rgb():
    found = pixels(decode(encode(picture().convert("1"), "PNG")))
    assert np.array_equal(found, np.asarray(picture().convert("1").convert("RGB")))


def test_palette_becomes_rgb():
    image = picture().quantize(16)
    assert np.array_equal(pixels(decode(encode(image, "PNG"))), np.asarray(image.convert("RGB")))


def test_cmyk_jpeg_comes_out_in_its_colours_and_not_inverted():
    found = pixels(decode(encode(picture().convert("CMYK"), "JPEG", quality=95)))
    assert np.abs(found - np.asarray(picture()).astype(int)).mean() < 5


def test_cmyk_jpeg_whose_adobe_marker_says_ycck_comes_out_in_its_colours():
    # Adobe's inks are stored inverted, then turned into brightness and colour.
    stored = ImageChops.invert(picture()).convert("YCbCr")
    bands = [ImageChops.invert(band) for band in stored.split()]  # as Pillow inverts them, too
    ycck = encode(Image.merge("CMYK", [*bands, Image.new("L", picture().size)]), "JPEG", quality=95)
    marker = ycck.index(b"Adobe")  # its last byte, 11 on: 0 for CMYK, 2 for YCCK
    assert ycck[marker + 11] == 0
    found = pixels(decode(ycck[: marker + 11] + b"\2" + ycck[marker + 12 :]))
    assert np.abs(found - np.asarray(picture()).astype(int)).mean() < 5


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "RGBX"])
def test_colour_space_of_a_tiff_comes_out_in_its_colours(mode):
    found = pixels(decode(encode(picture().convert(mode), "TIFF")))
    assert np.abs(found - np.asarray(picture()).astype(int)).mean() < 3


def test_lab_comes_out_in_its_colours():
    red = Image.new("LAB", (4, 4), (137, 208, 195))  # of L 53.7, a 80, b 67
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
    assert pomona.decode._rgb(image, "").mode == "RGB"


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
def test_transparency_lies_over_white(name, mode):
    image = Image.new(mode, (16, 16), (0, 0) if mode == "LA" else (0, 0, 0, 0))
    half = (0, 128) if mode == "LA" else (0, 0, 0, 128)
    image.paste(half, (8, 0, 16, 16))
    options = {"lossless": True} if name == "WEBP" else {}
    found = pixels(decode(encode(image, name, **options)))
    assert (found[:, :8] == 255).all()
    assert (found[:, 8:] == 127).all()


@pytest.mark.parametrize("mode", ["La", "RGBa"])
def test_premultiplied_transparency_lies_over_white(mode):
    straight = Image.new("LA" if mode == "La" else "RGBA", (2, 2), 0)
    straight.putalpha(0)
    found = pomona.decode._rgb(straight.convert(mode), "")
    assert (np.asarray(found) == 255).all()


def test_transparent_entry_of_a_palette_lies_over_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    found = pixels(decode(encode(image, "PNG", transparency=0)))
    assert found.tolist() == [[[255, 255, 255], [40, 50, 60]]]
    half = pixels(decode(encode(image, "PNG", transparency=b"\x80\xff")))
    assert half.tolist() == [[[132, 137, 142], [40, 50, 60]]]


def test_transparent_pixel_of_a_gif_lies_over_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    found = pixels(decode(encode(image, "GIF", transparency=0)))
    assert found.tolist() == [[[255, 255, 255], [40, 50, 60]]]


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
def test_grey_that_a_png_declares_transparent_lies_over_white(depth, row, colour, expected):
    chunk = (b"tRNS", struct.pack(">H", colour))
    found = pixels(decode(png((2, 1), depth, 0, [row], before=[chunk])))
    assert found[0, :, 0].tolist() == expected


@pytest.mark.parametrize(("depth", "unit"), [(8, 1), (16, 257)])
def test_colour_that_a_png_declares_transparent_lies_over_white(depth, unit):
    levels = [10, 20, 30, 40, 50, 60]
    row = b"".join(struct.pack(">B" if depth == 8 else ">H", level * unit) for level in levels)
    chunk = (b"tRNS", struct.pack(">3H", *(level * unit for level in levels[:3])))
    found = pixels(decode(png((2, 1), depth, 2, [row], before=[chunk])))
    assert found.tolist() == [[[255, 255, 255], [40, 50, 60]]]


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
    found = pixels(decode(encode(image, name, **options)))
    assert np.array_equal(found, np.stack([AS_8_BIT] * 3, axis=-1))


def test_12_bit_grey_is_scaled_by_its_full_range():
    found = pomona.decode._grey(grey([[0, 2048, 4095]], "I;16"), "I;12")
    assert np.asarray(found).tolist() == [[0, 128, 255]]


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
    found = pixels(decode(encode(grey([levels], mode), "TIFF")))
    assert found[0].tolist() == [[level] * 3 for level in expected]


# Animations, orientation, draft ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["GIF", "PNG", "TIFF", "WEBP", AVIF])
def test_first_frame_of_many_is_taken(name):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    content = encode(frames[0], name, save_all=True, append_images=frames[1:])
    assert np.abs(pixels(decode(content)) - np.array([255, 0, 0])).max() < 8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", AVIF])
def test_exif_orientation_is_handed_over_and_the_size_is_as_stored(name, orientation):
    found = decode(turned(picture(), orientation, name))
    assert (found.width, found.height) == ((32, 48) if orientation > 4 else (48, 32))
    assert found.image.size == (found.width, found.height)
    assert found.sideways == (orientation > 4)
    assert (found.orientation is None) == (orientation == 1)
    upright = found.image
    if found.orientation is not None:
        upright = upright.transpose(found.orientation)
    assert corners(upright) == "kryg"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_tiff_comes_upright_and_is_not_turned_again(orientation, compression):
    found = decode(turned(picture(), orientation, "TIFF", compression=compression))
    assert (found.width, found.height) == ((32, 48) if orientation > 4 else (48, 32))
    assert found.orientation is None
    assert np.array_equal(pixels(found), np.asarray(picture()))


def test_orientation_behind_the_pixels_of_a_png_is_found():
    exif = b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
    found = decode(png((1, 1), 8, 0, [b"\0"], after=[(b"eXIf", exif)]))
    assert found.orientation is Image.Transpose.ROTATE_270


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_senseless_orientation_means_upright(value):
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


def test_draft_scales_a_jpeg_but_not_below_what_is_enough_and_reports_it_as_stored():
    content = encode(picture(800, 600), "JPEG")
    found = decode(content, draft=(150, 150))
    assert found.image.size == (200, 150)
    assert (found.width, found.height) == (800, 600)
    assert decode(content, draft=(500, 400)).image.size == (800, 600)
    assert decode(content, draft=(2000, 2000)).image.size == (800, 600)


def test_draft_means_the_upright_picture():
    content = turned(picture(800, 400), 6, "JPEG")
    assert decode(content, draft=(200, 100)).image.size == (100, 200)


def test_draft_leaves_what_is_no_jpeg_alone():
    assert decode(FILES["PNG"], draft=(4, 4)).image.size == (48, 32)


# Quiet -------------------------------------------------------------------------------------------

NOISY = FILES["TIFF in JPEG strips"][:8] + bytes(40) + FILES["TIFF in JPEG strips"][48:]


def test_libtiff_prints_outside_of_quiet_codecs_and_not_inside(capfd):
    failure(NOISY)
    assert capfd.readouterr().err
    with quiet_codecs():
        failure(NOISY)
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"


def test_quiet_codecs_ends_with_an_exception(capfd):
    with pytest.raises(KeyError), quiet_codecs():
        raise KeyError
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"


def test_quiet_codecs_ends_with_the_last_of_its_threads(capfd):
    entered, leave = threading.Event(), threading.Event()

    def inside() -> None:
        with quiet_codecs():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=inside)
    with quiet_codecs():
        thread.start()
        assert entered.wait(10)
    os.write(2, b"lost")
    leave.set()
    thread.join()
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"


def test_warnings_that_are_errors_are_harmless_inside_quiet_codecs():
    icon = bytearray(FILES["ICO"])
    icon[6] = 47  # Pillow warns that the image is not of the expected size
    with pytest.raises(ImageError):
        decode(bytes(icon))
    with quiet_codecs():
        assert decode(bytes(icon)).width == 48
        with pytest.raises(UserWarning, match="not Pillow"):
            warnings.warn("not Pillow's", stacklevel=1)


QUIET_SCRIPT = """
import os, sys
from pomona.decode import decode
from pomona.errors import ImageError
from pomona.pillow import quiet_codecs
content = sys.stdin.buffer.read()
if sys.argv[1] == "closed":
    os.close(2)
for _ in range(3):
    with quiet_codecs():
        try:
            decode(content)
        except ImageError as error:
            print(error.status)
try:
    os.write(2, b"heard again")
except OSError:
    print("still closed")
"""


def quiet_process(content: bytes, how: str) -> tuple[list[str], str]:
    done = subprocess.run(
        [sys.executable, "-c", QUIET_SCRIPT, how], input=content, capture_output=True, check=True
    )
    return done.stdout.decode().split("\n")[:-1], done.stderr.decode()


def test_quiet_codecs_works_where_descriptor_2_is_closed():
    assert quiet_process(NOISY, "closed") == (["corrupt"] * 3 + ["still closed"], "")


def test_pillows_log_does_not_reach_the_terminal():
    content = bytearray(FILES["TIFF"])
    at = content.index(struct.pack("<HHIH", 277, 3, 1, 3)) + 8  # Pillow logs too many samples
    content[at : at + 2] = struct.pack("<H", 60000)
    assert quiet_process(bytes(content), "open") == (["corrupt"] * 3, "heard again")


# Properties --------------------------------------------------------------------------------------


@quick
@given(st.binary(max_size=200))
def test_any_bytes_become_a_picture_or_an_image_error(content):
    decoded_or_failed(content)


@quick
@given(any_file, st.integers(1, 40), st.binary(max_size=100))
def test_any_bytes_after_a_true_beginning_become_a_picture_or_an_image_error(content, length, rest):
    decoded_or_failed(content[:length] + rest, max_pixels=1_000_000)


@quick
@given(any_file, st.data())
def test_file_cut_anywhere_is_an_image_error_or_the_whole_picture(content, data):
    found = decoded_or_failed(content[: data.draw(st.integers(1, len(content) - 1))])
    if isinstance(found, Picture):
        assert np.array_equal(pixels(found), pixels(decode(content)))


@quick
@given(any_file, st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=6))
def test_file_with_changed_bytes_becomes_a_picture_or_an_image_error(content, changes):
    changed = bytearray(content)
    for at, value in changes:
        changed[at % len(changed)] = value
    decoded_or_failed(bytes(changed), max_pixels=1_000_000)


# Images from elsewhere ---------------------------------------------------------------------------


@pytest.mark.skipif(not ODD.is_dir(), reason="no images in shared/data/odd")
def test_real_odd_images_fail_only_as_image_errors_and_silently(capfd):
    statuses = set()
    with quiet_codecs():
        for path in sorted(path for path in ODD.rglob("*") if path.is_file()):
            found = decoded_or_failed(path.read_bytes())
            statuses.add("ok" if isinstance(found, Picture) else found.status)
    assert statuses == {"ok", *FAILURES}
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not ODD.is_dir(), reason="no images in shared/data/odd")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_real_camera_orientations_agree_with_pillow(orientation):
    path = next((ODD / "exif-orientation").glob(f"*{orientation}.*"))
    found = decode(path.read_bytes())
    upright = found.image
    if found.orientation is not None:
        upright = upright.transpose(found.orientation)
    expected = ImageOps.exif_transpose(Image.open(path))
    assert np.array_equal(np.asarray(upright), np.asarray(expected))
