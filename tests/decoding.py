"""Shared by the decoding tests: a file of each format, and access to the decoded pixels."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from PIL import Image, features

from drawn import encode, picture
from pomona.errors import ImageError
from pomona.worker.decode import FAILURES, Picture, decode
from pomona.worker.pillow_limits import quiet_codecs
from tiffs import WHITE as WHITE_IS_ZERO
from tiffs import Form, write

WHITE = (255, 255, 255)

AVIF = pytest.param("AVIF", marks=pytest.mark.skipif(not features.check("avif"), reason="no AVIF"))
LOSSLESS = {
    "PNG": {},
    "BMP": {},
    "DIB": {},
    "TGA": {},
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
_GREYS = np.asarray(picture())[..., :1].astype(np.uint16) * 257
FILES["TIFF of 16 bits, white is zero"] = write(Form("u16", WHITE_IS_ZERO, order=">"), _GREYS)
FILES["TIFF of floats, deflate"] = write(
    Form("f32", order=">", compression=8, predictor=3, rows=8), _GREYS.astype(np.float32)
)
FILES["progressive JPEG"] = encode(picture(), "JPEG", progressive=True)

_OF_PYTHON = re.compile(
    r"object at 0x|NoneType|has no attribute|index out of range|invalid literal|codec can't"
    r"|requires a buffer|division by zero|convert string|: b'|unpack"
)

any_file = st.sampled_from(sorted(FILES)).map(FILES.__getitem__)
quick = settings(deadline=None, max_examples=150)


def pixels(picture: Picture) -> np.ndarray:
    assert picture.image.mode == "RGB"
    return np.asarray(picture.image)


def failure(content: bytes, **options: object) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(content, **options)
    message = str(caught.value)
    assert caught.value.status in FAILURES
    assert message.isprintable()  # a single line
    assert 0 < len(message) <= 200
    said, _, _ = message.partition("; first bytes b")  # what is quoted there may be anything
    assert not _OF_PYTHON.search(said)
    return caught.value


def decoded_or_failed(content: bytes, **options: object) -> Picture | ImageError:
    with quiet_codecs():
        try:
            result = decode(content, **options)
        except ImageError:
            return failure(content, **options)
    pixels(result)
    return result


def grey(levels: list[list[float]], mode: str) -> Image.Image:
    kinds = {"I;16": np.uint16, "I;16B": ">u2", "I": np.int32, "F": np.float32}
    return Image.fromarray(np.asarray(levels, kinds[mode]))
