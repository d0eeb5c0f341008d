"""A PNG is `ok` if the chunks with its pixels are intact, whatever its other chunks contain."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from decoding import decoded_or_failed, failure, pixels, quick
from drawn import encode, picture, png
from pomona.worker.decode import Picture, decode

SIGNATURE = b"\x89PNG\r\n\x1a\n"
EXIF = b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
ANCILLARY = {
    b"tEXt": b"Title\0a picture",
    b"zTXt": b"Title\0\0" + zlib.compress(b"a picture"),
    b"iTXt": b"Title\0\0\0\0\0a picture",
    b"iCCP": b"sRGB\0\0" + zlib.compress(b"profile"),
    b"gAMA": struct.pack(">I", 45455),
    b"cHRM": struct.pack(">8I", *[31270] * 8),
    b"sRGB": b"\0",
    b"pHYs": struct.pack(">IIB", 2835, 2835, 1),
    b"bKGD": bytes(6),
    b"hIST": bytes(2),
    b"sBIT": b"\x08\x08\x08",
    b"sPLT": b"name\0\x08",
    b"tIME": b"\x07\xea\1\1\0\0\0",
    b"eXIf": EXIF,
    b"acTL": struct.pack(">II", 1, 0),
    b"fcTL": struct.pack(">IIIIIHHBB", 0, 6, 4, 0, 0, 1, 10, 0, 0),
    b"caBX": b"private",
    b"vpAg": b"private",
}
ROWS = [bytes(range(10 * row, 10 * row + 18)) for row in range(4)]
PLAIN = png((6, 4), 8, 2, ROWS)


def chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, offset and body length of each chunk."""
    at = len(SIGNATURE)
    while at < len(content):
        length, name = struct.unpack(">I4s", content[at : at + 8])
        yield name, at + 8, length
        at += 12 + length


def with_wrong_checksum(content: bytes, chunk: bytes) -> bytes:
    changed = bytearray(content)
    for name, at, length in chunks(content):
        if name == chunk:
            changed[at + length] ^= 0x40
    assert bytes(changed) != content
    return bytes(changed)


def wrapped(*parts: tuple[bytes, bytes]) -> bytes:
    return SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )


def interlaced() -> bytes:
    """8 x 8 greys in the seven passes of Adam7, which Pillow does not write."""
    levels = np.arange(64, dtype=np.uint8).reshape(8, 8) + 100
    starts = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
    rows = b""
    for left, top, across, down in (*starts, (0, 1, 1, 2)):
        rows += b"".join(b"\0" + row.tobytes() for row in levels[top::down, left::across])
    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 1)
    return wrapped((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))


FILES = {
    "colour": encode(picture(), "PNG"),
    "grey": encode(picture().convert("L"), "PNG"),
    "alpha": encode(picture().convert("RGBA"), "PNG"),
    "palette": encode(picture().convert("P"), "PNG"),
    "black and white": encode(picture().convert("1"), "PNG"),
    "16-bit grey": encode(picture().convert("L").convert("I;16"), "PNG"),
    "16-bit colour": png((2, 2), 16, 2, [bytes(range(12)), bytes(range(12))]),
    "interlaced": interlaced(),
    "animation": encode(
        picture(), "PNG", save_all=True, append_images=[picture(seed=1), picture(seed=2)]
    ),
    "animation behind a still": encode(
        picture(), "PNG", save_all=True, append_images=[picture(seed=1)], default_image=True
    ),
}


def by_pillow(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


# Skipped chunks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("name", sorted(ANCILLARY))
def test_checksum_of_an_ancillary_chunk_is_ignored(name, place):
    whole = png((6, 4), 8, 2, ROWS, **{place: [(name, ANCILLARY[name])]})
    decoded, expected = decode(with_wrong_checksum(whole, name)), decode(whole)
    assert np.array_equal(pixels(decoded), by_pillow(PLAIN))
    assert decoded.orientation == expected.orientation
    assert (decoded.orientation is not None) == (name == b"eXIf")


@quick
@given(st.sampled_from(sorted(ANCILLARY)), st.binary(max_size=40), st.booleans())
def test_content_of_an_ancillary_chunk_is_ignored(name, body, first):
    place = {"before" if first else "after": [(name, body)]}
    assert np.array_equal(pixels(decode(png((6, 4), 8, 2, ROWS, **place))), by_pillow(PLAIN))


@pytest.mark.parametrize("size", [2**20 + 1, 5_000_000])
def test_profile_and_text_of_any_size_are_skipped(size):
    data = np.random.default_rng(0).bytes(size)
    large = [
        (b"iCCP", b"large\0\0" + zlib.compress(data)),
        (b"tEXt", b"Comment\0" + data.replace(b"\0", b"x")),
        (b"zTXt", b"Comment\0\0" + zlib.compress(data)),
        (b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(data)),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + data.replace(b"\0", b"x")),
    ]
    for place in ("before", "after"):
        content = png((6, 4), 8, 2, ROWS, **{place: large})
        assert np.array_equal(pixels(decode(content)), by_pillow(PLAIN))


def test_checksum_of_the_transparency_chunk_is_ignored():
    whole = png((2, 1), 8, 0, [b"\x0a\x64"], before=[(b"tRNS", b"\0\x0a")])
    assert pixels(decode(with_wrong_checksum(whole, b"tRNS")))[0, :, 0].tolist() == [255, 100]


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\x0a\0", bytes(300)])
def test_transparency_of_a_wrong_length_is_skipped(body):
    whole = png((2, 1), 8, 0, [b"\x0a\x64"], before=[(b"tRNS", body)])
    assert pixels(decode(whole))[0, :, 0].tolist() == [10, 100]


@pytest.mark.parametrize(
    "chunk",
    [
        (b"eXIf", EXIF),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation='6'/>".replace(b"'", b'"')),
        (
            b"zTXt",
            b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n32\n" + EXIF.hex().encode()),
        ),
    ],
)
def test_orientation_is_found_next_to_large_and_broken_chunks(chunk):
    large = (b"iCCP", b"large\0\0" + zlib.compress(bytes(2_000_000)))
    content = png((6, 4), 8, 2, ROWS, before=[large, (b"gAMA", b"1"), chunk])
    assert decode(content).orientation is Image.Transpose.ROTATE_270


@pytest.mark.parametrize("name", sorted(FILES))
def test_bytes_after_the_last_chunk_are_ignored(name):
    expected = pixels(decode(FILES[name]))
    assert np.array_equal(pixels(decode(FILES[name] + b"trailer")), expected)


# Damage ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [b"IHDR", b"IDAT", b"IEND"])
@pytest.mark.parametrize("name", sorted(FILES))
def test_wrong_checksum_of_a_critical_chunk_is_corrupt(name, chunk):
    error = failure(with_wrong_checksum(FILES[name], chunk))
    assert error.status == "corrupt"
    assert f"wrong checksum in chunk {chunk.decode()}" in str(error)


def test_wrong_checksum_of_the_palette_is_corrupt():
    assert failure(with_wrong_checksum(FILES["palette"], b"PLTE")).status == "corrupt"


@pytest.mark.parametrize("name", sorted(set(FILES) - {"animation behind a still"}))
def test_flipped_bit_anywhere_in_the_pixels_is_corrupt(name):
    content = bytearray(FILES[name])
    at, length = next((at, length) for name, at, length in chunks(content) if name == b"IDAT")
    for place in range(at, at + length, max(1, length // 20)):
        content[place] ^= 4
        assert failure(bytes(content)).status == "corrupt"
        content[place] ^= 4


@pytest.mark.parametrize(("depth", "colour_type"), [(8, 1), (8, 9), (0, 2), (99, 2)])
def test_header_with_an_invalid_mode_is_corrupt_and_the_error_says_so(depth, colour_type):
    error = failure(png((6, 4), depth, colour_type, ROWS))
    assert (error.status, "colour mode in the header" in str(error)) == ("corrupt", True)


def test_damaged_data_with_a_valid_checksum_is_corrupt():
    header = struct.pack(">IIBBBBB", 6, 4, 8, 2, 0, 0, 0)
    data = bytearray(zlib.compress(b"".join(b"\0" + row for row in ROWS)))
    data[len(data) // 2] ^= 1
    content = wrapped((b"IHDR", header), (b"IDAT", bytes(data)), (b"IEND", b""))
    assert failure(content).status == "corrupt"


@quick
@given(st.sampled_from(sorted(FILES)), st.floats(0, 0.9999))
def test_file_cut_anywhere_is_truncated(name, share):
    content = FILES[name]
    cut = content[: len(SIGNATURE) + int(share * (len(content) - len(SIGNATURE)))]
    assert failure(cut).status == "truncated"


@pytest.mark.parametrize("lost", [1, 2, 5])
@pytest.mark.parametrize("height", [9, 20])
def test_missing_rows_are_truncated(lost, height):
    rows = [bytes([200 + row] * 18) for row in range(height)]
    header = struct.pack(">IIBBBBB", 6, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows[:-lost]))
    content = wrapped((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    assert by_pillow(content).shape == (height, 6, 3)  # Pillow accepts it
    assert failure(content).status == "truncated"


def test_missing_rows_of_an_interlaced_file_are_truncated():
    (_, header, _), (_, at, length), _ = chunks(FILES["interlaced"])
    rows = zlib.decompress(FILES["interlaced"][at : at + length])
    part = (b"IDAT", zlib.compress(rows[:-9]))
    content = wrapped((b"IHDR", FILES["interlaced"][header : header + 13]), part, (b"IEND", b""))
    assert failure(content).status == "truncated"


@pytest.mark.parametrize("colour", ["black", "white"])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (40, 30)])
def test_picture_of_one_colour_is_complete(colour, size):
    for mode in ("RGB", "L", "P", "1", "RGBA", "LA", "I;16"):
        image = Image.new("L" if mode == "I;16" else "RGB", size, colour).convert(mode)
        assert decode(encode(image, "PNG")).image.size == size


def test_missing_palette_is_corrupt():
    assert failure(png((2, 1), 8, 3, [b"\0\1"])).status == "corrupt"


def test_pixel_chunks_separated_by_other_chunks_are_corrupt():
    header = struct.pack(">IIBBBBB", 6, 4, 8, 2, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in ROWS))
    halves = [(b"IDAT", data[:20]), (b"tEXt", b"Title\0text"), (b"IDAT", data[20:])]
    assert failure(wrapped((b"IHDR", header), *halves, (b"IEND", b""))).status == "corrupt"


def test_unknown_critical_chunk_is_unsupported():
    content = PLAIN.replace(SIGNATURE, SIGNATURE + b"\0\0\0\4CgBI\x50\0\x20\2\x2b\xd5\xb3\x7f")
    error = failure(content)
    assert error.status == "unsupported"
    assert "CgBI" in str(error)


@quick
@given(
    st.sampled_from(sorted(FILES)),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_changed_bytes_give_the_same_picture_or_an_image_error(name, changes):
    changed = bytearray(FILES[name])
    for share, value in changes:
        changed[int(share * len(changed))] = value
    result = decoded_or_failed(bytes(changed), max_pixels=1_000_000)
    if isinstance(result, Picture) and b"tRNS" not in bytes(changed):
        assert np.array_equal(pixels(result), pixels(decode(FILES[name])))


# Reported files ----------------------------------------------------------------------------------


def test_reported_pngs_get_the_right_status(shared_data):
    folder = shared_data / "trials"
    whole = decode((folder / "png-crc" / "0_whole.png").read_bytes())
    text = decode((folder / "png-crc" / "1_text_bad_crc.png").read_bytes())
    assert np.array_equal(pixels(text), pixels(whole))
    assert failure((folder / "png-crc" / "5_idat_bad_crc.png").read_bytes()).status == "corrupt"
    large = (folder / "png-large" / "1_icc_1.3MB.png").read_bytes()
    assert decode(large).format == "PNG"
