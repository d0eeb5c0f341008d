"""Every TIFF layout gives its pixels or is refused."""

from __future__ import annotations

import io
import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops

import pomona.worker.formats.tiff
from decoding import decoded_or_failed, failure, pixels, quick
from drawn import STORED, encode, picture, with_size
from pomona.worker.decode import decode
from pomona.worker.formats.tiff_tags import Tags
from pomona.worker.pillow_limits import quiet_codecs
from tiffs import (
    BLACK,
    CMYK,
    ENCODERS,
    LAB,
    PALETTE,
    REVERSED,
    RGB,
    WHITE,
    YCBCR,
    Form,
    draw,
    expected,
    is_sensible,
    write,
)

KINDS = (
    *("u1", "u2", "u4", "u8", "u12", "u14", "u16", "u32", "u64"),
    *("i8", "i16", "i32", "i64", "f16", "f32", "f64"),
)
COLOURS = (
    *((WHITE, extra) for extra in ((), (0,), (1,), (2,))),
    *((BLACK, extra) for extra in ((), (0,), (1,), (2,), (0, 0))),
    *((RGB, extra) for extra in ((), None, (0,), (1,), (2,), (0, 0), (1, 0), (2, 0))),
    (PALETTE, ()),
    *((CMYK, extra) for extra in ((), (0,))),
)
SEGMENTS = ({}, {"rows": 5}, {"tile": (16, 16)}, {"tile": (48, 32)})
LAYOUTS = [
    {"order": order, "compression": compression, "predictor": predictor, "planar": planar}
    | segments
    | {"fill": fill, "big": big}
    for order, compression, predictor, planar, segments, fill, big in itertools.product(
        "<>", ENCODERS, (1, 2, 3), (1, 2), SEGMENTS, (1, 2), (False, True)
    )
]
EVERY = 97  # a prime, so that each kind of samples meets each value of each layout property


def forms(photometric: int, extra: tuple[int, ...] | None) -> list[Form]:
    """A sample of all forms with these colours; each kind of samples gets a different sample."""
    kinds = KINDS[:7] if photometric == PALETTE else KINDS
    result = []
    for number, kind in enumerate(kinds):
        possible = [Form(kind, photometric, extra, **layout) for layout in LAYOUTS]
        result += [form for form in possible if is_sensible(form)][number::EVERY]
    return result


def is_decoded(form: Form) -> bool:
    """Whether docs/decoding.md says that the form is decoded."""
    is_short = form.kind[0] == "u" and form.bits <= 16
    has_alpha = form.extra is None or form.extra[:1] in ((1,), (2,))
    if form.photometric in (PALETTE, CMYK) or has_alpha:
        return is_short and (form.photometric, form.extra) != (WHITE, (1,))
    return form.photometric != WHITE or form.kind[0] != "i"


def read_with_tifffile(content: bytes) -> np.ndarray:
    """The samples as tifffile reads them, flat, in file order."""
    return tifffile.imread(io.BytesIO(content)).ravel()


@pytest.mark.parametrize(("photometric", "extra"), COLOURS)
def test_no_layout_gives_wrong_pixels_with_status_ok(photometric, extra):
    counts: Counter[str] = Counter()
    for number, form in enumerate(forms(photometric, extra)):
        samples = draw(form, number, small=number % 2 == 0)
        content = write(form, samples)
        stored = samples if form.planar == 1 else np.moveaxis(samples, -1, 0)
        assert np.array_equal(read_with_tifffile(content), stored.ravel()), form
        if not is_decoded(form):
            error = failure(content)
            assert error.status == "unsupported", form
            assert "not decoded, convert the file" in str(error)
            counts["unsupported"] += 1
            continue
        result = pixels(decode(content)).astype(int)
        # Pillow rounds transparency differently.
        tolerance = 0 if extra is not None and not any(extra) else 1
        assert np.abs(result - expected(form, samples)).max() <= tolerance, form
        counts["ok and right"] += 1
    print(dict(counts))  # noqa: T201 - `pytest -rP` shows it
    assert sum(counts.values()) == len(forms(photometric, extra)) > 25


@pytest.mark.parametrize("compression", ENCODERS)
@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "u8", "u12", "u16", "u32", "u64"])
def test_white_is_zero_equals_its_black_is_zero_twin(kind, compression):
    black = Form(kind, BLACK, compression=compression)
    samples = draw(black, small=True)
    negative = np.array(2**black.bits - 1, samples.dtype) - samples
    correct = pixels(decode(write(black, samples)))
    for order, predictor, segments in itertools.product("<>", (1, 2), SEGMENTS):
        white = replace(black, photometric=WHITE, order=order, predictor=predictor, **segments)
        if is_sensible(white):
            assert np.array_equal(pixels(decode(write(white, negative))), correct), white


@pytest.mark.parametrize("kind", ["f16", "f32", "f64"])
def test_floats_whose_zero_is_white_are_inverted_within_their_range(kind):
    samples = draw(Form(kind), small=True)
    for top in (1, 255):
        black = np.rint(samples * top * 64) / 64  # exact in 16 bits, as is the negative
        black = black.astype(samples.dtype).clip(0, top)
        black[0, 0] = top
        correct = pixels(decode(write(Form(kind), black)))
        result = pixels(decode(write(Form(kind, WHITE), (top - black).astype(samples.dtype))))
        assert np.abs(result.astype(int) - correct).max() <= 1  # halves round to even in both
        assert (result[0, 0] == 255).all()


@pytest.mark.parametrize(
    ("wrong", "correct"),
    [
        ("1_u16_white_is_zero.tif", "0_u16_black_is_zero.tif"),
        ("4_f32_big_endian_deflate.tif", "5_f32_little_endian_deflate.tif"),
        ("6_rgb16_planar.tif", "7_rgb16_contiguous.tif"),
    ],
)
def test_reported_file_equals_its_twin(shared_data: Path, wrong, correct):
    folder = shared_data / "trials" / "tiff"
    decoded, twin = (decode((folder / name).read_bytes()) for name in (wrong, correct))
    assert np.array_equal(pixels(decoded), pixels(twin))


# Lossy compressions, faxes, YCbCr, L*a*b* --------------------------------------------------------

DRAWN = np.asarray(picture())


def by_tifffile(samples: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, samples, **options)
    return file.getvalue()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("options", [{}, {"rowsperstrip": 16}, {"tile": (16, 16)}])
@pytest.mark.parametrize("colours", ["minisblack", "miniswhite", "rgb", "separate", "ycbcr"])
def test_jpeg_in_a_tiff_gives_nearly_its_pixels(colours, options, order):
    planar = {}
    if colours == "separate":
        samples, correct, planar = np.moveaxis(DRAWN, -1, 0), DRAWN, {"planarconfig": "separate"}
    elif colours == "ycbcr":
        samples, correct = np.asarray(picture().convert("YCbCr")), DRAWN
    elif colours == "rgb":
        samples = correct = DRAWN
    else:
        samples = DRAWN[..., 0]
        correct = (samples if colours == "minisblack" else 255 - samples)[..., None]
    content = by_tifffile(
        np.ascontiguousarray(samples),
        photometric="rgb" if planar else colours,
        compression="jpeg",
        compressionargs={"level": 95},
        byteorder=order,
        **planar,
        **options,
    )
    assert np.abs(pixels(decode(content)).astype(int) - correct).mean() < 3


@pytest.mark.parametrize("mode", ["RGBA", "CMYK"])
def test_jpeg_in_a_tiff_gives_nearly_the_pixels_of_the_same_file_without_compression(mode):
    image = picture().convert(mode)
    if mode == "RGBA":
        image.putalpha(image.getchannel("R"))
    plain, packed = (encode(image, "TIFF", compression=name) for name in (None, "jpeg"))
    expected = tifffile.imread(io.BytesIO(packed)).astype(int)
    assert np.abs(expected - tifffile.imread(io.BytesIO(plain))).mean() < 3
    result, correct = (pixels(decode(content)).astype(int) for content in (packed, plain))
    assert np.abs(result - correct).mean() < 5


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_jpeg_in_a_tiff_with_missing_data_is_truncated_and_not_grey(share):
    jpeg = encode(picture(), "JPEG", quality=95)
    part = jpeg[: int(len(jpeg) * share)]
    form = Form("u8", YCBCR, compression=7)
    whole, cut = (write(form, DRAWN, segments=[data]) for data in (jpeg, part))
    assert np.abs(pixels(decode(whole)).astype(int) - DRAWN).mean() < 3
    with quiet_codecs():
        assert failure(cut).status == "truncated"


@pytest.mark.parametrize("size", [(48, 31), (47, 32), (48, 33), (60_000, 60_000)])
@pytest.mark.parametrize("compression", [6, 7])
def test_jpeg_in_a_tiff_with_a_size_other_than_its_strip_is_corrupt(compression, size):
    jpeg = with_size(encode(picture(), "JPEG", quality=95), *size)
    error = failure(write(Form("u8", YCBCR, compression=compression), DRAWN, segments=[jpeg]))
    assert (error.status, error.width, error.height) == ("corrupt", 48, 32)
    assert f"{size[0]} x {size[1]}" in str(error)


def test_tiff_6_jpeg_with_separate_tables_is_unsupported():
    content = write(Form("u8", YCBCR, compression=6), DRAWN, segments=[bytes(999)])
    error = failure(content)
    assert error.status == "unsupported"
    assert "tables are apart" in str(error)


def test_tiff_6_jpeg_in_one_strip_gives_the_pixels_of_the_jpeg():
    jpeg = encode(picture(), "JPEG", quality=95, subsampling=0)
    result = pixels(decode(write(Form("u8", YCBCR, compression=6), DRAWN, segments=[jpeg])))
    assert np.abs(result.astype(int) - pixels(decode(jpeg))).max() <= 2


@pytest.mark.parametrize("fill", [1, 2])
@pytest.mark.parametrize("photometric", [WHITE, BLACK])
@pytest.mark.parametrize("compression", ["tiff_ccitt", "group3", "group4"])
def test_fax_gives_its_pixels(compression, photometric, fill):
    image = picture().convert("1")
    content = encode(image, "TIFF", compression=compression, tiffinfo={262: photometric})
    page = tifffile.TiffFile(io.BytesIO(content)).pages[0]
    assert page.photometric == photometric
    assert np.array_equal(page.asarray() != (photometric == WHITE), np.asarray(image))
    if fill == 2:
        data = [
            content[at : at + n]
            for at, n in zip(page.dataoffsets, page.databytecounts, strict=True)
        ]
        form = Form("u1", photometric, compression=int(page.compression), fill=2)
        form = replace(form, rows=page.rowsperstrip)
        more = {292: [page.tags[292].value]} if 292 in page.tags else {}
        reverse = [strip.translate(REVERSED) for strip in data]
        content = write(form, np.asarray(image)[..., None], more, segments=reverse)
    correct = np.asarray(image.convert("RGB"))
    assert np.array_equal(pixels(decode(content)), correct)


@pytest.mark.parametrize("compression", ENCODERS)
@pytest.mark.parametrize("segments", SEGMENTS[:3])
def test_ycbcr_keeps_its_colours(segments, compression):
    for order, predictor in itertools.product("<>", (1, 2)):
        form = Form("u8", YCBCR, (), order, compression, predictor, **segments)
        if is_sensible(form):
            content = write(form, np.asarray(picture().convert("YCbCr")), {530: [1, 1]})
            assert np.abs(pixels(decode(content)).astype(int) - DRAWN).mean() < 2, form


@pytest.mark.parametrize("size", [(48, 32), (37, 21)])
@pytest.mark.parametrize("compression", [1, 5, 8])
@pytest.mark.parametrize("across_down", [(2, 1), (2, 2), (4, 1), (4, 2), (1, 2)])
def test_subsampled_ycbcr_keeps_its_colours_or_is_refused(across_down, compression, size):
    across, down = across_down
    image = picture(*size).convert("YCbCr")
    bright = np.asarray(image)[..., 0]
    small = -(-size[0] // across), -(-size[1] // down)
    wide, tall = small[0] * across, small[1] * down
    chroma = np.asarray(image.resize(small))[..., 1:]  # (H / down, W / across, 2)
    padded = np.pad(bright, [(0, tall - size[1]), (0, wide - size[0])], "edge")
    blocks = padded.reshape(small[1], down, small[0], across).swapaxes(1, 2)
    units = np.concatenate([blocks.reshape(*blocks.shape[:2], -1), chroma], axis=-1)
    strip = ENCODERS[compression](units.tobytes())
    form = Form("u8", YCBCR, compression=compression)
    content = write(form, np.asarray(image), {530: across_down}, segments=[strip])
    if compression == 1:
        error = failure(content)
        assert error.status == "unsupported"
        assert "YCbCr" in str(error)
        return
    whole = chroma.repeat(down, 0).repeat(across, 1)[: size[1], : size[0]]
    correct = Image.fromarray(np.dstack([bright, whole]), "YCbCr").convert("RGB")
    assert np.abs(pixels(decode(content)).astype(int) - np.asarray(correct)).max() <= 2


@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("extras", [5, 6, 12, 200])
@pytest.mark.parametrize(("kind", "photometric"), [("u8", BLACK), ("u16", RGB), ("f32", RGB)])
def test_additional_sensor_bands_are_ignored(kind, photometric, extras, planar):
    form = Form(kind, photometric, (0,) * extras, compression=8, planar=planar)
    samples = draw(form, small=True)
    result = pixels(decode(write(form, samples)))
    assert np.array_equal(result, expected(form, samples))


@pytest.mark.parametrize("extra", [(0,), (2,)])
def test_palette_with_an_extra_sample_keeps_its_colours(extra):
    samples = draw(Form("u8", PALETTE, extra))
    for order, compression, segments in itertools.product("<>", ENCODERS, SEGMENTS):
        form = Form("u8", PALETTE, extra, order, compression, **segments)
        result = pixels(decode(write(form, samples))).astype(int)
        assert np.abs(result - expected(form, samples)).max() <= 1, form


def test_lab_gives_the_same_pixels_in_all_layouts():
    samples = draw(Form("u8", LAB))
    correct = pixels(decode(write(Form("u8", LAB), samples)))
    for order, compression, predictor, segments in itertools.product(
        "<>", ENCODERS, (1, 2), SEGMENTS
    ):
        form = Form("u8", LAB, (), order, compression, predictor, **segments)
        if is_sensible(form):
            assert np.array_equal(pixels(decode(write(form, samples))), correct), form


def test_inks_of_a_jpeg_in_a_tiff_are_not_inverted():
    inks = picture().convert("CMYK")
    jpeg = encode(ImageChops.invert(inks), "JPEG", quality=95)  # Pillow inverts them on writing
    content = write(Form("u8", CMYK, compression=7), np.asarray(inks), segments=[jpeg])
    result = pixels(decode(content)).astype(int)
    assert np.abs(result - np.asarray(inks.convert("RGB"))).mean() < 3


# Other layouts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "more", "words"),
    [
        (Form("c64"), {}, "complex numbers"),
        (Form("c128"), {}, "complex numbers"),
        (Form("u16", BLACK), {259: [34887]}, "compression 34887 (LERC)"),
        (Form("u8", RGB), {259: [50001]}, "compression 50001 (WebP)"),
        (Form("u8", RGB), {259: [34712]}, "compression 34712 (JPEG 2000)"),
        (Form("u8", RGB), {259: [60000]}, "compression 60000 (unknown)"),
        (Form("u16", BLACK), {262: [32803]}, "32803 (a colour filter array"),
        (Form("u8", BLACK), {262: [4]}, "4 (a transparency mask)"),
        (Form("u8", RGB), {258: [8, 8, 4]}, "samples that differ in 258 (BitsPerSample)"),
        (Form("u16", RGB), {339: [1, 2, 1]}, "samples that differ in 339 (SampleFormat)"),
        (Form("u16", BLACK), {317: [2]}, "predictor 2 with compression 1"),
        (Form("u8", RGB), {317: [2]}, "predictor 2 with compression 1"),
        (Form("u8", RGB, compression=8), {317: [3]}, "predictor 3"),
        (Form("u8", RGB, compression=8), {317: [34892]}, "predictor 34892"),
        (Form("u16", RGB), {284: [3]}, "planar configuration 3"),
        (Form("u8", CMYK), {332: [2]}, "inks"),
        (Form("u16", CMYK), {332: [2]}, "inks"),
        (Form("u8", PALETTE), {320: list(range(256)) * 3}, "8 bits instead of 16"),
        (Form("u8", BLACK, (2, 2)), {}, "extra samples 2, 2"),
        (Form("u16", RGB, (3,)), {}, "extra samples 3"),
        (Form("u16", BLACK, None), {}, "without the tag ExtraSamples"),
        (Form("u8", LAB), {259: [7]}, "L*a*b* of unsigned samples of 8 bits with compression 7"),
        (Form("u8", YCBCR), {}, "YCbCr"),  # subsampled by default
    ],
)
def test_layout_that_could_be_misread_is_unsupported_and_named(form, more, words):
    error = failure(write(form, draw(form), more))
    assert error.status == "unsupported"
    assert words in str(error)
    assert (error.width, error.height, error.format) == (37, 21, "TIFF")


@pytest.mark.parametrize("tag", [262, 273, 256])
def test_missing_tag_that_determines_the_pixels_is_corrupt(tag):
    error = failure(write(Form("u16"), draw(Form("u16")), {tag: []}))
    assert error.status == "corrupt"
    assert "missing" in str(error) or "strips" in str(error)


def test_sparse_file_is_unsupported():
    for form in (Form("u8", RGB), Form("f32", compression=8), Form("u16", tile=(16, 16))):
        offsets, counts = (324, 325) if form.tile else (273, 279)
        count = 6 if form.tile else 1
        content = write(form, draw(form), {offsets: [0] * count, counts: [0] * count})
        error = failure(content)
        assert (error.status, "sparse" in str(error)) == ("unsupported", True)


def test_ignored_plane_may_be_missing_from_the_file():
    for form in (
        Form("u8", BLACK, (0,), planar=2, compression=8),
        Form("u16", RGB, (0, 0), planar=2),
        Form("f32", RGB, (0,), planar=2, tile=(16, 16), compression=5),
        Form("u16", RGB, (2, 0), planar=2, rows=5),
    ):
        samples = draw(form)
        offsets, counts = (324, 325) if form.tile else (273, 279)
        tags = Tags(whole := write(form, samples))
        each = len(tags.numbers(offsets)) // form.samples
        absent = {
            tag: [*tags.numbers(tag)[:-each].tolist(), *[0] * each] for tag in (offsets, counts)
        }
        result = pixels(decode(write(form, samples, absent)))
        assert np.array_equal(result, pixels(decode(whole))), form
        assert np.abs(result.astype(int) - expected(form, samples)).max() <= 1, form


def test_cmyk_with_transparency_is_unsupported_and_the_error_says_so():
    for kind in ("u8", "u16"):
        for extra in (1, 2):
            form = Form(kind, CMYK, (extra,))
            error = failure(write(form, draw(form)))
            assert (error.status, "transparency" in str(error)) == ("unsupported", True)


def test_undeclared_fourth_sample_is_transparency_in_16_bits_as_in_8():
    samples = draw(Form("u8", RGB, None))
    narrow = pixels(decode(write(Form("u8", RGB, None), samples)))
    wide = pixels(decode(write(Form("u16", RGB, None), samples.astype(np.uint16) * 257)))
    assert np.array_equal(narrow, wide)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["u16", "f32"])
def test_orientation_is_applied_to_samples_of_any_depth(kind, orientation):
    how = STORED[orientation]
    stored = picture() if how is None else picture().transpose(how)
    scale = 257 if kind == "u16" else 1
    form = Form(kind, RGB, order=">", compression=5)
    samples = (np.asarray(stored).astype(int) * scale).astype(form.dtype)
    decoded = decode(write(form, samples, {274: [orientation]}))
    assert (decoded.width, decoded.height) == ((32, 48) if orientation > 4 else (48, 32))
    assert decoded.orientation is None
    assert np.array_equal(pixels(decoded), DRAWN)


@pytest.mark.parametrize("kind", ["u16", "f32"])
def test_first_of_many_pages_is_decoded_at_any_depth(kind):
    dtype = Form(kind).dtype
    stack = np.stack([np.full((8, 8), level, dtype) for level in (1, 0, 1)])
    stack *= 65535 if kind == "u16" else 1
    content = by_tifffile(stack, photometric="minisblack", byteorder=">", compression="zlib")
    assert (pixels(decode(content)) == 255).all()


# Broken and hostile files ------------------------------------------------------------------------

NEW = {
    name: write(form, draw(form))
    for name, form in {
        "16 bits": Form("u16", WHITE, order=">", rows=5),
        "LZW": Form("u16", RGB, (2,), compression=5, predictor=2, tile=(16, 16)),
        "deflate": Form("f32", BLACK, order=">", compression=8, predictor=3, rows=5),
        "PackBits": Form("u4", RGB, compression=32773),
        "LZMA": Form("i16", BLACK, compression=34925),
        "zstd": Form("u16", CMYK, compression=50000, planar=2, big=True),
        "palette": Form("u8", PALETTE, planar=2, order=">", big=True),
    }.items()
}
any_new = st.sampled_from(sorted(NEW)).map(NEW.__getitem__)


@pytest.mark.parametrize("compression", ENCODERS)
@pytest.mark.parametrize("kind", ["u8", "u16", "f32"])
def test_strip_with_too_little_data_is_never_ok(kind, compression):
    form = Form(kind, BLACK, compression=compression)
    samples = draw(form)
    part = ENCODERS[compression](b"".join(row.tobytes() for row in samples[:15]))
    with quiet_codecs():
        assert failure(write(form, samples, segments=[part])).status in ("corrupt", "truncated")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("name", sorted(NEW))
def test_part_of_a_tiff_is_truncated(name, share):
    with quiet_codecs():
        assert failure(NEW[name][: int(len(NEW[name]) * share)]).status == "truncated"


def test_offset_beyond_the_end_is_truncated():
    for form in (Form("u16"), Form("u8", RGB), Form("f64", compression=8)):
        content = write(form, draw(form), {273: [60000]})
        assert failure(content).status == "truncated"


@pytest.mark.parametrize("name", sorted(NEW))
def test_more_pixels_than_the_limit_are_refused_before_a_strip_is_decompressed(name, monkeypatch):
    monkeypatch.setattr(pomona.worker.formats.tiff, "bands", lambda *_: pytest.fail("was unpacked"))
    error = failure(NEW[name], max_pixels=37 * 21 - 1)
    assert (error.status, error.width, error.height) == ("too_large", 37, 21)


@pytest.mark.parametrize("name", sorted(NEW))
def test_pictures_at_the_pixel_limit_are_decoded_at_any_depth(name):
    assert decode(NEW[name], max_pixels=37 * 21).width == 37


@pytest.mark.parametrize("kind", ["u8", "u16"])
def test_tile_far_larger_than_the_picture_is_refused_before_it_is_decompressed(kind, monkeypatch):
    monkeypatch.setattr(
        pomona.worker.formats.tiff, "plugin", lambda *_: pytest.fail("was unpacked")
    )
    monkeypatch.setattr(pomona.worker.formats.tiff, "bands", lambda *_: pytest.fail("was unpacked"))
    form = Form(kind, RGB, tile=(16, 16), compression=5)
    content = write(form, draw(form), {322: [65520], 323: [65520]})
    assert failure(content).status == "corrupt"
    content = write(form, draw(form), {322: [65520], 323: [65520]}, segments=[bytes(2**23)])
    assert failure(content).status == "too_large"


def test_page_that_links_to_itself_is_read_once():
    content = bytearray(NEW["16 bits"])
    start = int.from_bytes(content[4:8], "big")
    entries = int.from_bytes(content[start : start + 2], "big")
    content[start + 2 + 12 * entries :][:4] = b""
    at = start + 2 + 12 * entries
    content[at : at + 4] = start.to_bytes(4, "big")
    assert np.array_equal(pixels(decode(bytes(content))), pixels(decode(NEW["16 bits"])))


def test_tag_that_claims_billions_of_values_is_truncated():
    content = bytearray(NEW["16 bits"])
    at = content.index(b"\1\1\0\4", int.from_bytes(content[4:8], "big"))  # ImageLength
    content[at + 4 : at + 8] = b"\xff\xff\xff\xff"
    assert failure(bytes(content)).status == "truncated"


def test_page_with_thousands_of_tags_is_corrupt():
    page = b"".join(n.to_bytes(2, "big") + b"\0\4\0\0\0\1\0\0\0\1" for n in range(60_000))
    content = b"MM\0*\0\0\0\x08" + (60_000).to_bytes(2, "big") + page + bytes(4)
    assert failure(content).status == "corrupt"


def test_duplicate_tag_is_corrupt():
    content = bytearray(NEW["16 bits"])
    start = int.from_bytes(content[4:8], "big") + 2
    content[start + 12 : start + 14] = content[start : start + 2]
    assert failure(bytes(content)).status == "corrupt"


@quick
@given(any_new, st.data())
def test_tiff_cut_anywhere_is_an_image_error(content, data):
    decoded_or_failed(content[: data.draw(st.integers(1, len(content) - 1))])


@quick
@given(any_new, st.data())
def test_tiff_with_changed_bytes_becomes_a_picture_or_an_image_error(content, data):
    changed = bytearray(content)
    page = int.from_bytes(content[4:8], "little" if content[:1] == b"I" else "big")
    near_page = st.integers(min(page, len(content) - 1), len(content) - 1)
    place = st.one_of(st.integers(0, len(content) - 1), near_page)
    for at, value in data.draw(st.lists(st.tuples(place, st.integers(0, 255)), max_size=6)):
        changed[at] = value
    decoded_or_failed(bytes(changed), max_pixels=1_000_000)
