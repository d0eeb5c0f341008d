"""JPEG 2000 of any bit depth gives the pixels that imagecodecs decodes."""

from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from decoding import failure, pixels
from drawn import encode, picture
from pomona.worker.decode import decode
from pomona.worker.formats.jpeg2000 import _YCBCR


def drawn(bits: int, channels: int) -> np.ndarray:
    """Blocks of black, white and six levels in between: (160, 200, channels) uint16."""
    levels = np.random.default_rng(bits).integers(0, 8, (20, 25, channels))
    levels[:5] = 7
    levels[5:10] = 0
    return (levels * ((2**bits - 1) / 7)).astype(np.uint16).repeat(8, 0).repeat(8, 1)


def encoded(samples: np.ndarray, bits: int, **options: object) -> bytes:
    return imagecodecs.jpeg2k_encode(samples, bitspersample=bits, **options)


@pytest.mark.parametrize("form", ["JP2", "J2K"])
@pytest.mark.parametrize("options", [{"reversible": True}, {"level": 60}])
@pytest.mark.parametrize("bits", [9, 10, 12, 14, 16])
def test_white_with_more_than_8_bits_stays_white(bits, options, form):
    content = encoded(drawn(bits, 3), bits, codecformat=form, **options)
    steps = 2 ** (bits - 8)
    expected = (imagecodecs.jpeg2k_decode(content).astype(int) + steps // 2) // steps
    assert np.array_equal(pixels(decode(content)), expected.clip(0, 255))


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("channels", [2, 4])
def test_opaque_alpha_with_more_than_8_bits_stays_opaque(channels, bits):
    samples = drawn(bits, channels)
    samples[..., -1] = 2**bits - 1
    expected = samples[..., : channels - 1] / (2**bits - 1) * 255
    result = pixels(decode(encoded(samples, bits, reversible=True)))
    assert np.abs(result - expected).max() <= 1


def test_ycbcr_with_more_than_8_bits_is_unsupported():
    content = encoded(drawn(12, 3), 12, reversible=True)
    rgb = _YCBCR[:-1] + b"\x10"
    assert rgb in content
    error = failure(content.replace(rgb, _YCBCR))
    assert (error.status, error.width) == ("unsupported", 200)
    assert "convert the file to RGB" in str(error)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
def test_signed_samples_with_more_than_8_bits_are_unsupported(dtype: type) -> None:
    samples = drawn(12, 1)[..., 0].astype(dtype)
    content = imagecodecs.jpeg2k_encode(samples, bitspersample=12, reversible=True)
    if dtype is np.uint16:
        assert pixels(decode(content)).max() > 0
    else:
        error = failure(content)
        assert error.status == "unsupported"
        assert "signed samples" in str(error)


def test_signed_8_bit_samples_are_unsupported() -> None:
    samples = np.linspace(-100, 100, 2000).reshape(40, 50).astype(np.int8)
    error = failure(imagecodecs.jpeg2k_encode(samples, reversible=True))
    assert error.status == "unsupported"
    assert "signed samples" in str(error)


@pytest.mark.parametrize("boxes", [False, True])
def test_file_without_its_end_marker_is_truncated_because_openjpeg_gives_no_pixels(
    boxes: bool,
) -> None:
    whole = encode(picture(), "JPEG2000", no_jp2=not boxes, tile_size=(16, 16))
    assert whole.endswith(b"\xff\xd9")
    assert decode(whole).format == "JPEG2000"
    with pytest.raises(OSError, match="broken data stream"):
        Image.open(io.BytesIO(whole[:-2])).load()
    error = failure(whole[:-2])
    assert error.status == "truncated"
    assert "no end of codestream" in str(error)
