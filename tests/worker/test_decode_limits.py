"""Images that are too large are refused before their pixels use memory."""

from __future__ import annotations

import io
import struct
import threading
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

import pomona.worker.decode
from decoding import FILES, decoded_or_failed, failure
from drawn import encode, picture, png, with_size
from pomona.worker.decode import MAX_PIXELS, Picture, decode


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
    monkeypatch.setattr(pomona.worker.decode, "_picture", lambda *_: pytest.fail("was decoded"))
    error = failure(FILES[name], max_pixels=48 * 32 - 1)
    assert error.status == "too_large"
    assert "1536 pixels, the limit is 1535: raise it with `max_pixels`" in str(error)
    if name not in ("ICO", "WEBP"):  # Pillow itself refuses these before it reports their size
        assert (error.width, error.height) == (48, 32)
    assert error.format == name.replace("progressive ", "").split()[0]


@pytest.mark.parametrize("name", sorted(FILES))
def test_pictures_at_the_pixel_limit_are_decoded(name):
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


def test_size_beyond_the_range_of_table_columns_is_omitted():
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 2**32 - 1, 2, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    error = failure(FILES["PNG"][:8] + chunk + FILES["PNG"][33:])
    assert (error.status, error.width, error.height) == ("too_large", None, None)


@pytest.mark.parametrize("keyword", [b"Comment", b"Raw profile type exif"])
def test_text_that_decompresses_to_gigabytes_is_skipped_and_not_decompressed(keyword):
    bomb = (b"zTXt", keyword + b"\0\0" + zlib.compress(bytes(100_000_000)))
    content = png((1, 1), 8, 2, [bytes(3)], before=[bomb], after=[bomb])
    tracemalloc.start()
    assert decode(content).width == 1
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20_000_000


@pytest.mark.parametrize("limit", [1, 10, None, float("inf")])
@pytest.mark.parametrize("name", sorted(FILES))
def test_pillows_own_limit_is_ignored_and_unchanged(name, limit, monkeypatch):
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


def test_other_threads_keep_pillows_limit_during_a_decode(monkeypatch):
    inside, leave = threading.Event(), threading.Event()

    def wait(*_: object) -> None:
        inside.set()
        leave.wait(10)

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    monkeypatch.setattr(pomona.worker.decode, "_picture", wait)
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
