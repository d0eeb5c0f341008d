"""TIFF files of every layout, written byte by byte, and the pixels that they must give."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import imagecodecs
import numpy as np
from PIL import Image

HEIGHT, WIDTH = 21, 37
WHITE, BLACK, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
COLOURS = {WHITE: 1, BLACK: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, LAB: 3}
FORMATS = {"u": 1, "i": 2, "f": 3, "c": 6}
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
ENCODERS = {
    1: bytes,
    5: imagecodecs.lzw_encode,
    8: zlib.compress,
    32946: zlib.compress,
    32773: imagecodecs.packbits_encode,
    34925: imagecodecs.lzma_encode,
    50000: imagecodecs.zstd_encode,
}
"""Compression -> function that packs bytes; PackBits packs each row separately."""

_START = 16
PREDICTED = (5, 8, 32946, 34925, 50000)


@dataclass(frozen=True)
class Form:
    """One way to lay out samples in a TIFF.

    Attributes:
        kind: `u`, `i`, `f` or `c`, and the bits of one sample: `u12`.
        photometric: PhotometricInterpretation.
        extra: ExtraSamples; None: there is one extra sample, but no tag.
        order: `<` or `>`.
        compression: the tag's value.
        predictor: 1, 2 or 3.
        planar: 1, or 2 for a plane for each sample.
        tile: (width, height) of tiles; None for strips.
        rows: rows per strip; 0 for one strip.
        fill: FillOrder.
        big: whether it is a BigTIFF.
    """

    kind: str = "u8"
    photometric: int = BLACK
    extra: tuple[int, ...] | None = ()
    order: str = "<"
    compression: int = 1
    predictor: int = 1
    planar: int = 1
    tile: tuple[int, int] | None = None
    rows: int = 0
    fill: int = 1
    big: bool = False

    @property
    def bits(self) -> int:
        return int(self.kind[1:])

    @property
    def dtype(self) -> np.dtype:
        whole = max(8, 1 << (self.bits - 1).bit_length())
        return np.dtype(f"{self.kind[0]}{whole // 8}")

    @property
    def samples(self) -> int:
        return COLOURS[self.photometric] + (1 if self.extra is None else len(self.extra))


def is_sensible(form: Form) -> bool:
    """Whether any program writes such a file."""
    if form.predictor != 1 and form.compression not in PREDICTED:
        return False
    if form.predictor == 2 and form.bits % 8:
        return False
    return form.predictor != 3 or form.kind[0] == "f"


def draw(form: Form, seed: int = 0, small: bool = False) -> np.ndarray:
    """Random samples for a form: (HEIGHT, WIDTH, samples).

    If `small`, floats are within 0..1 and integers within 0..65535. Otherwise some are less
    than 0 if the form has such numbers.
    """
    shape = HEIGHT, WIDTH, form.samples
    random = np.random.default_rng(seed)
    if form.kind[0] == "c":
        return random.normal(size=shape).astype(form.dtype)
    if form.kind[0] == "f":
        low, high = (0, 1) if small else (-300, 700)
        return random.uniform(low, high, shape).astype(form.dtype)
    half = 2 ** (form.bits - 1)
    low, high = (0, 2 * half) if form.kind[0] == "u" else (-half, half)
    if small:
        low, high = 0, min(high, 65536)
    samples = random.integers(low, high, shape, form.dtype)
    if form.extra and form.extra[0] == 1:  # premultiplied colours are no brighter than their alpha
        colours = COLOURS[form.photometric]
        samples[..., :colours] = np.minimum(samples[..., :colours], samples[..., colours:][..., :1])
    return samples


def palette(form: Form) -> np.ndarray:
    """Random colours: (entries, 3) uint16."""
    return np.random.default_rng(1).integers(0, 65536, (1 << form.bits, 3), np.uint16)


def write(
    form: Form,
    samples: np.ndarray,
    more: dict[int, Sequence[int]] | None = None,
    segments: Sequence[bytes] | None = None,
) -> bytes:
    """A TIFF with one page.

    Args:
        form: its layout.
        samples: (H, W, samples).
        more: 16-bit tags to add or replace; a tag without values is omitted.
        segments: the bytes of the strips or tiles, if not those of the samples.
    """
    height, width = samples.shape[:2]
    wide, tall = form.tile or (width, form.rows or height)
    if segments is None:
        planes = [samples] if form.planar == 1 else np.moveaxis(samples, -1, 0)[..., None]
        segments = [
            _packed(form, _part(plane, top, left, form.tile or (wide, tall), bool(form.tile)))
            for plane in planes
            for top in range(0, height, tall)
            for left in range(0, width, wide)
        ]
    offsets = [_START + sum(map(len, segments[:n])) for n in range(len(segments))]
    counts = [len(segment) for segment in segments]
    tags: dict[int, tuple[str, Sequence[int]]] = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [form.bits] * form.samples),
        259: ("H", [form.compression]),
        262: ("H", [form.photometric]),
        266: ("H", [form.fill]),
        277: ("H", [form.samples]),
        284: ("H", [form.planar]),
        317: ("H", [form.predictor]),
        339: ("H", [FORMATS[form.kind[0]]] * form.samples),
    }
    if form.tile:
        tags |= {322: ("I", [wide]), 323: ("I", [tall]), 324: ("I", offsets), 325: ("I", counts)}
    else:
        tags |= {273: ("I", offsets), 278: ("I", [tall]), 279: ("I", counts)}
    if form.extra:
        tags[338] = ("H", form.extra)
    if form.photometric == PALETTE:
        tags[320] = ("H", palette(form).T.ravel().tolist())
    for tag, values in (more or {}).items():
        tags.pop(tag, None)
        if values:
            tags[tag] = ("H", values)
    return _file(form, b"".join(segments), tags)


def _part(
    plane: np.ndarray, top: int, left: int, size: tuple[int, int], is_tile: bool
) -> np.ndarray:
    """One strip, or one tile with some values beyond the edge of the picture."""
    part = plane[top : top + size[1], left : left + size[0]]
    if is_tile:
        beyond = [(0, size[1] - part.shape[0]), (0, size[0] - part.shape[1]), (0, 0)]
        part = np.pad(part, beyond, "edge")
    return part


def _file(form: Form, data: bytes, tags: dict[int, tuple[str, Sequence[int]]]) -> bytes:
    order, word = form.order, "Q" if form.big else "I"
    inline = struct.calcsize(word)
    at = _START + len(data) + (8 if form.big else 2) + len(tags) * (4 + 2 * inline) + inline
    entries, arrays = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        value = struct.pack(f"{order}{len(values)}{kind}", *values)
        if len(value) > inline:
            value, arrays = struct.pack(f"{order}{word}", at + len(arrays)), arrays + value
        code = {"H": 3, "I": 4}[kind]
        entries += struct.pack(f"{order}HH{word}", tag, code, len(values)) + value.ljust(
            inline, b"\0"
        )
    magic = b"II" if order == "<" else b"MM"
    if form.big:
        head = magic + struct.pack(f"{order}HHHQ", 43, 8, 0, _START + len(data))
    else:
        head = magic + struct.pack(f"{order}HI8x", 42, _START + len(data))
    count = struct.pack(f"{order}{'Q' if form.big else 'H'}", len(tags))
    return head + data + count + entries + bytes(inline) + arrays


def _packed(form: Form, part: np.ndarray) -> bytes:
    """The bytes of one strip or tile."""
    rows, _, samples = part.shape
    size = form.bits // 8
    if form.bits % 8:
        wide = part.astype(">u2").reshape(rows, -1, 1).view(np.uint8)
        bits = np.unpackbits(wide, axis=-1)[..., 16 - form.bits :]
        data = np.packbits(bits.reshape(rows, -1), axis=-1)
    elif form.predictor == 3:
        big = part.astype(part.dtype.newbyteorder(">")).reshape(rows, -1, 1)
        bytes_apart = np.moveaxis(big.view(np.uint8), -1, 1).reshape(rows, -1, samples)
        data = np.diff(bytes_apart, axis=1, prepend=np.zeros((rows, 1, samples), np.uint8))
    else:
        whole = part.view(f"u{size}") if form.kind[0] != "c" else part
        if form.predictor == 2:
            whole = np.diff(whole, axis=1, prepend=np.zeros_like(whole[:, :1]))
        data = whole.astype(whole.dtype.newbyteorder(form.order))
    rows_of_bytes = [np.ascontiguousarray(row).tobytes() for row in data]
    encode = ENCODERS[form.compression]
    if form.compression == 32773:
        packed = b"".join(map(encode, rows_of_bytes))
    else:
        packed = encode(b"".join(rows_of_bytes))
    return packed.translate(REVERSED) if form.fill == 2 else packed


def expected(form: Form, samples: np.ndarray) -> np.ndarray:
    """The RGB pixels that docs/decoding.md promises for the samples: (H, W, 3) uint8."""
    colours = COLOURS[form.photometric]
    levels = _levels(form, samples[..., :colours])
    if form.photometric == PALETTE:
        pixels = (palette(form) >> 8).astype(np.uint8)[samples[..., 0]]
    elif form.photometric == CMYK:
        pixels = np.asarray(Image.fromarray(levels, "CMYK").convert("RGB"))
    else:
        pixels = np.broadcast_to(levels, (*levels.shape[:2], 3))
    alpha = 2 if form.extra is None else (form.extra or (0,))[0]
    if not alpha:
        return pixels
    share = (
        _levels(
            replace(form, photometric=form.photometric or BLACK), samples[..., colours:][..., :1]
        )
        / 255
    )
    over = pixels * share if alpha == 2 else np.minimum(pixels, share * 255)
    return np.rint(over + 255 * (1 - share)).astype(np.uint8)


def _levels(form: Form, samples: np.ndarray) -> np.ndarray:
    top = 2**form.bits - 1
    is_whole = form.kind[0] in "ui"
    if form.photometric == WHITE and is_whole:
        samples = (top - samples.astype(object)).astype(form.dtype)
    if form.kind[0] == "u" and form.bits <= 16:
        if form.bits == 16 and form.photometric not in (WHITE, BLACK):
            return (samples >> 8).astype(np.uint8)
        return np.rint(samples.astype(int) * 255 / top).astype(np.uint8)
    values = samples.astype(np.float64)
    low, high = values.min(), values.max()
    full = (255 if form.bits == 8 else 65535) if is_whole else (1 if high <= 1 else 255)
    if low >= 0 and high <= full:
        low, high = 0, full
    if form.photometric == WHITE and not is_whole:
        low, high = high, low
    return np.rint((values - low) / (high - low) * 255).astype(np.uint8)
