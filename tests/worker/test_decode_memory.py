"""Headers that claim more than the file holds use no memory; measured in a limited process."""

from __future__ import annotations

import itertools
import json
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from drawn import encode, picture, with_size
from tiffs import Form, write

LIMIT = 2**20  # memory that a hostile file may add, in kB: 178 million pixels use 0.7 GB
SCRIPT = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30,) * 2)
from pomona.worker.decode import decode
from pomona.errors import ImageError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode(sys.stdin.buffer.read())
    status = "ok"
except ImageError as error:
    status = error.status
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
json.dump([status, after - before], sys.stdout)
"""


def png_that_claims(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    whole = encode(picture(), "PNG")
    return whole[:16] + chunk[4:] + struct.pack(">I", zlib.crc32(chunk)) + whole[33:]


def gif_without_end() -> bytes:
    frames = [picture(64, 64, seed) for seed in range(2)]
    whole = encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=10)
    first = whole.rindex(b"\x21\xf9\x04")  # the control block of the second frame
    return whole[:first] + whole[first:-1] * 3000


def tiff_that_claims(width: int, height: int) -> bytes:
    content = bytearray(encode(picture(), "TIFF"))
    for tag, value, side in ((256, 48, width), (257, 32, height)):
        at = content.index(struct.pack("<HHIH", tag, 4, 1, value)) + 8
        content[at : at + 4] = struct.pack("<I", side)
    return bytes(content)


def bomb(width: int, height: int) -> bytes:
    return encode(Image.new("1", (width, height)), "PNG", optimize=True)


def tiff_bomb(kind: str, rows: int) -> bytes:
    form = Form(kind, compression=8, rows=rows)
    black = np.broadcast_to(np.zeros(1, form.dtype), (13_000, 13_000, 1))
    packer = zlib.compressobj()
    strip = b"".join(packer.compress(bytes(13_000 * form.bits // 8)) for _ in range(rows))
    return write(form, black, segments=[strip + packer.flush()] * (13_000 // rows))


JPEG = encode(picture(), "JPEG")
SIDES = ((65_535, 65_535), (65_535, 1), (13_000, 13_000))


@pytest.mark.parametrize(
    ("content", "statuses"),
    [
        *((with_size(JPEG, *sides), {"corrupt", "truncated", "too_large"}) for sides in SIDES),
        *((png_that_claims(*sides), {"truncated", "too_large", "corrupt"}) for sides in SIDES),
        *((tiff_that_claims(*sides), {"truncated", "too_large", "corrupt"}) for sides in SIDES),
        (bomb(20_000, 20_000), {"too_large"}),
        (bomb(13_000, 13_000), {"ok"}),
        (gif_without_end(), {"ok"}),
        (tiff_bomb("u16", 100), {"ok"}),
        (tiff_bomb("f64", 13_000), {"too_large"}),
    ],
    ids=[
        *(
            f"{form}-{width}x{height}"
            for form, (width, height) in itertools.product(("jpeg", "png", "tiff"), SIDES)
        ),
        "bomb-above",
        "bomb-below",
        "gif",
        "tiff-bomb-in-strips",
        "tiff-bomb-in-one-strip",
    ],
)
def test_memory_is_bounded_by_the_pixel_limit(content: bytes, statuses: set[str]) -> None:
    assert len(content) < 20 * 2**20
    completed = subprocess.run(
        [sys.executable, "-c", SCRIPT], input=content, capture_output=True, check=False
    )
    assert completed.returncode == 0, completed.stderr.decode()
    status, grown = json.loads(completed.stdout)
    assert status in statuses
    assert grown < LIMIT
