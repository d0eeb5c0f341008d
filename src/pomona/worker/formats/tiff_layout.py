"""The layout of the samples in a TIFF, and whether Pomona decodes it.

TIFF allows hundreds of combinations of bit depth, sample format, byte order, compression, predictor
and order of samples. Pomona decodes only the combinations listed here and refuses all others,
because decoders return wrong pixels for many of them without an error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pomona.worker.formats.tiff_tags import Tags, named, refusal

__all__ = ["Layout", "read_layout"]

GREYS = (0, 1)
RGB, PALETTE, CMYK, YCBCR, LAB = 2, 3, 5, 6, 8
_PHOTOMETRIC = {0: 1, 1: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, LAB: 3}
"""PhotometricInterpretation -> samples of one pixel without extra samples."""

PHOTOMETRIC_NAMES = {
    0: "greys whose zero is white",
    1: "greys",
    RGB: "RGB",
    PALETTE: "palette",
    CMYK: "CMYK",
    YCBCR: "YCbCr",
    LAB: "L*a*b*",
}
ADVICE = "convert the file to plain 8-bit or 16-bit RGB"
_OTHER_PHOTOMETRIC = {
    4: "a transparency mask",
    9: "ICC L*a*b*",
    10: "ITU L*a*b*",
    32803: "a colour filter array, as in camera raw files",
    32844: "LogL",
    32845: "LogLuv",
    34892: "linear raw, as in camera raw files",
}
NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS, LZMA, ZSTD = 1, 5, 8, 32946, 32773, 34925, 50000
OLD_JPEG, JPEG = 6, 7
FAX = (2, 3, 4)
LOSSLESS = (NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS, LZMA, ZSTD)
PREDICTED = (LZW, DEFLATE, OLD_DEFLATE, LZMA, ZSTD)
"""Compressions that have predictors."""

_OTHER_COMPRESSIONS = {
    32771: "CCITT RLE with words",
    32809: "ThunderScan",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34712: "JPEG 2000",
    34676: "SGILog",
    34677: "SGILog24",
    34887: "LERC",
    34892: "lossy JPEG of DNG",
    34933: "PNG",
    34934: "JPEG XR",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_COEFFICIENTS = (0.299, 0.587, 0.114)
_FULL_RANGE = (0.0, 255.0, 128.0, 255.0, 128.0, 255.0)
_KINDS = {1: "u", 2: "i", 3: "f"}
"""SampleFormat -> NumPy's kind."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The samples of a TIFF's first page, according to its tags.

    Attributes:
        byte_order: `<` or `>`.
        is_big: whether the file is a BigTIFF.
        size: (width, height) as stored.
        bits: of each sample.
        kind: of each sample: `u` unsigned, `i` signed, `f` float.
        photometric: PhotometricInterpretation.
        samples: number of samples of each pixel.
        extra: ExtraSamples, one for each sample after the colours; None if the file has more
            samples than colours and does not declare their kind.
        compression: the tag's value.
        predictor: 1 none, 2 differences, 3 differences of floats.
        planar: PlanarConfiguration; 2 if each sample has its own plane.
        fill_order: 1, or 2 if the bits of each byte are stored in reverse.
        is_tiled: whether segments are tiles; otherwise they are strips.
        segment: (width, height) of a tile, or of a strip.
        offsets: where each segment starts in the file, int64.
        counts: the bytes of each segment, int64; None if the file does not state them.
        subsampling: YCbCrSubSampling.
        is_plain_ycbcr: whether YCbCr has the coefficients and the range of JFIF files.
        palette: the colours of a palette, (colours, 3) uint8; None for another interpretation.
        jpeg_tables: the tables that the JPEG streams of all segments share; may be empty.
        orientation: the tag's value, or None.
        xmp: the tag's bytes; may be empty.
    """

    byte_order: str
    is_big: bool
    size: tuple[int, int]
    bits: int
    kind: str
    photometric: int
    samples: int
    extra: tuple[int, ...] | None
    compression: int
    predictor: int
    planar: int
    fill_order: int
    is_tiled: bool
    segment: tuple[int, int]
    offsets: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64] | None
    subsampling: tuple[int, int]
    is_plain_ycbcr: bool
    palette: npt.NDArray[np.uint8] | None
    jpeg_tables: bytes
    orientation: int | None
    xmp: bytes

    @property
    def colours(self) -> int:
        """Samples of one pixel without extra samples."""
        return _PHOTOMETRIC[self.photometric]

    @property
    def alpha(self) -> int:
        """0 if the picture is opaque, 1 if colours are multiplied by the transparency, else 2."""
        if self.extra is None:
            return 2  # four samples, the fourth undeclared: Pillow's choice
        return self.extra[0] if self.extra else 0

    @property
    def planes(self) -> int:
        """Number of planes of the picture; the planes of ignored samples follow them."""
        return self.colours + bool(self.alpha) if self.planar == 2 else 1

    @property
    def segments_across(self) -> int:
        """How many segments are side by side."""
        return -(-self.size[0] // self.segment[0])

    @property
    def segments_down(self) -> int:
        """How many rows of segments a plane has."""
        return -(-self.size[1] // self.segment[1])

    @property
    def samples_together(self) -> int:
        """Samples of one pixel that lie side by side in a segment."""
        return 1 if self.planar == 2 else self.samples

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of a segment, unpacked."""
        return -(-self.segment[0] * self.samples_together * self.bits // 8)


def read_layout(content: bytes) -> Layout:
    """Read the first page's tags.

    Args:
        content: the whole file, which begins like a TIFF.

    Raises:
        ImageError: tags are missing, contradict each other, or describe samples that Pomona does
            not decode.
    """
    tags = Tags(content)
    size = width, height = tags.number(256), tags.number(257)
    if not (0 < width < 2**31 and 0 < height < 2**31):
        raise refusal("corrupt", f"{width} x {height} pixels", size)
    photometric = tags.number(262)
    compression = tags.number(259, 1)
    samples = tags.number(277, 3 if photometric == YCBCR else 1)
    if not 0 < samples <= 65535:
        raise refusal("corrupt", f"{samples} samples per pixel", size)
    is_tiled = 324 in tags
    if is_tiled == (273 in tags) or is_tiled != (322 in tags):
        raise refusal("corrupt", "neither strips nor tiles, or parts of both", size)
    segment = (
        (tags.number(322), tags.number(323)) if is_tiled else (width, tags.number(278, height))
    )
    if 0 in segment:
        raise refusal("corrupt", f"segments of {segment[0]} x {segment[1]} pixels", size)
    bits = _same(tags, 258, samples, 1, size)
    counts = 325 if is_tiled else 279
    layout = Layout(
        byte_order=tags.byte_order,
        is_big=tags.is_big,
        size=size,
        bits=bits,
        kind=_kind(_same(tags, 339, samples, 1, size), size),
        photometric=_photometric(photometric, size),
        samples=samples,
        extra=_extra(tags, samples - _PHOTOMETRIC[photometric], size),
        compression=_compression(compression, size),
        predictor=tags.number(317, 1),
        planar=tags.number(284, 1),
        fill_order=tags.number(266, 1),
        is_tiled=is_tiled,
        segment=(segment[0], segment[1] if is_tiled else min(segment[1], height)),
        offsets=tags.numbers(324 if is_tiled else 273),
        counts=tags.numbers(counts) if counts in tags else None,
        subsampling=(
            (int(tags.numbers(530)[0]), int(tags.numbers(530)[-1])) if 530 in tags else (2, 2)
        ),
        is_plain_ycbcr=(
            tags.ratios(529, _COEFFICIENTS) == _COEFFICIENTS
            and tags.ratios(532, _FULL_RANGE) == _FULL_RANGE
        ),
        palette=_palette(tags, bits, size) if photometric == PALETTE else None,
        jpeg_tables=tags.bytes(347),
        orientation=tags.number(274) if 274 in tags else None,
        xmp=tags.bytes(700),
    )
    if photometric == CMYK and tags.number(332, 1) != 1:
        raise refusal("unsupported", "inks that are not cyan, magenta, yellow and black", size)
    return layout


def _photometric(value: int, size: tuple[int, int]) -> int:
    if value in _PHOTOMETRIC:
        return value
    what = _OTHER_PHOTOMETRIC.get(value, "unknown")
    raise refusal(
        "unsupported", f"photometric interpretation {value} ({what}): not decoded, {ADVICE}", size
    )


def _compression(value: int, size: tuple[int, int]) -> int:
    if value in (*LOSSLESS, *FAX, OLD_JPEG, JPEG):
        return value
    what = _OTHER_COMPRESSIONS.get(value, "unknown")
    reason = f"compression {value} ({what}): not decoded, save it with another, such as deflate"
    raise refusal("unsupported", reason, size)


def _same(tags: Tags, tag: int, samples: int, default: int, size: tuple[int, int]) -> int:
    """Return the value of a tag whose values for all samples are equal."""
    if tag not in tags:
        return default
    found = tags.numbers(tag)
    if 1 != len(found) < samples:
        raise refusal(
            "corrupt", f"tag {named(tag)} has {len(found)} values for {samples} samples", size
        )
    if (found[:samples] != found[0]).any():
        listed = ", ".join(map(str, found[: min(samples, 8)]))
        raise refusal("unsupported", f"samples that differ in {named(tag)} ({listed})", size)
    return int(found[0])


def _kind(sample_format: int, size: tuple[int, int]) -> str:
    if sample_format in _KINDS:
        return _KINDS[sample_format]
    what = "complex numbers" if sample_format in (5, 6) else f"sample format {sample_format}"
    raise refusal("unsupported", f"{what}: only real numbers become pixels", size)


def _extra(tags: Tags, extras: int, size: tuple[int, int]) -> tuple[int, ...] | None:
    """Return the kinds of the samples after the colours."""
    if extras < 0:
        raise refusal("corrupt", f"{-extras} samples fewer than the colours need", size)
    if not extras:
        return ()
    if 338 not in tags:
        return None
    found = tags.numbers(338)
    if len(found) != extras:
        what = f"{extras} samples besides the colours, but {len(found)} in ExtraSamples"
        raise refusal("unsupported", what, size)
    return tuple(int(value) for value in found)


def _palette(tags: Tags, bits: int, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    found = tags.numbers(320)
    if bits > 16 or len(found) != 3 << bits:
        raise refusal("corrupt", f"a palette of {len(found)} values for {bits} bits", size)
    if 0 < found.max() < 256:
        raise refusal("unsupported", "a palette whose colours have 8 bits instead of 16", size)
    return (found.reshape(3, -1).T >> 8).astype(np.uint8)
