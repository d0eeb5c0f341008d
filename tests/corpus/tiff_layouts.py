"""TIFFs in layouts that decoders confuse, and layouts that are refused."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from corpus import Case
from tiffs import BLACK, RGB, WHITE, YCBCR, Form, draw, write


def cases() -> Iterator[Case]:
    for kind in ("u4", "u8", "u12", "u16", "u32"):
        black = draw(Form(kind), small=True)
        white = np.array(2 ** Form(kind).bits - 1, black.dtype) - black
        right = write(Form(kind), black)
        for order, name in (("<", "little-endian"), (">", "big-endian")):
            form = Form(kind, WHITE, (), order, compression=5, rows=5)
            yield Case(f"{kind} white is zero {name}.tif", write(form, white), right)
    for kind in ("f16", "f32", "f64"):
        form = Form(kind, BLACK, order=">", compression=8, predictor=3, tile=(16, 16))
        floats = draw(form, small=True)
        yield Case(f"{kind} big-endian.tif", write(form, floats), write(Form(kind), floats))
    for extra in ((), (2,)):
        form = Form("u16", RGB, extra, planar=2)
        colours = draw(form)
        right = write(Form("u16", RGB, extra), colours)
        yield Case(f"planes of {form.samples} samples.tif", write(form, colours), right)
    form = Form("u16", RGB, (0,), planar=2)
    colours = draw(form)
    tags = {273: [16, 16 + 2 * 21 * 37, 16 + 4 * 21 * 37, 0], 279: [2 * 21 * 37] * 3 + [0]}
    right = write(Form("u16", RGB), colours[..., :3])
    yield Case("ignored plane without data.tif", write(form, colours, tags), right)
    for name, form, more, reason in (
        ("complex numbers", Form("c64"), {}, "complex numbers"),
        ("LERC", Form("f32"), {259: [34887]}, "LERC"),
        ("subsampled", Form("u8", YCBCR), {530: [2, 2]}, "YCbCr"),
        ("camera raw", Form("u16"), {262: [32803]}, "camera raw"),
    ):
        content = write(form, draw(form), more)
        yield Case(f"{name}.tif", content, status="unsupported", error=reason)
