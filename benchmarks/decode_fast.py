"""Measures what `--decode fast` saves and what it changes; prints a Markdown table.

    python benchmarks/decode_fast.py --weights FILE [PHOTO.jpg ...]

Without photos it draws some of 3000x2000, as draw_images.py does. One thread decodes and resizes
each photo both ways, several times, and reports the median. Features are compared by their
cosine and by the largest absolute difference of an element.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from draw_images import QUALITY, picture
from pomona import DecodeOptions, build_encoder
from pomona.encoder.preprocessing import Preprocessing
from pomona.runtime.registry import load_once
from pomona.worker.decode import decode
from pomona.worker.featurize import encode_images
from pomona.worker.resize import resize_to
from run import machine

WIDTH, HEIGHT = 3000, 2000


def drawn(number: int, count: int) -> bytes:
    pixels = picture(0, number, number / count, WIDTH)[(WIDTH - HEIGHT) // 2 :][:HEIGHT]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def seconds(content: bytes, spec: Preprocessing, fast: bool, repeats: int) -> float:
    """The median time of decoding and resizing."""
    draft = (spec.width, spec.height) if fast else None
    result = []
    for _ in range(repeats):
        started = time.perf_counter()
        resize_to(decode(content, draft=draft), spec.height, spec.width, spec.resize)
        result.append(time.perf_counter() - started)
    return statistics.median(result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="*", type=Path, help="JPEGs; by default some are drawn")
    parser.add_argument("--weights", required=True, help="imagenet, a Keras file, untrained:SEED")
    parser.add_argument("--count", type=int, default=4, help="how many to draw")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    if options.photos:
        photos = {photo.name: photo.read_bytes() for photo in options.photos}
    else:
        photos = {f"drawn {n + 1}": drawn(n, options.count) for n in range(options.count)}

    encoder = build_encoder(weights=options.weights)
    runtime = load_once(encoder.fingerprint, lambda: encoder)
    contents = pa.array(photos.values(), pa.large_binary())
    rows, exact = encode_images(contents, None, runtime, DecodeOptions())
    _, fast = encode_images(contents, None, runtime, DecodeOptions(fast=True))
    cosines = (exact * fast).sum(axis=1) / np.linalg.norm(exact, axis=1)
    cosines /= np.linalg.norm(fast, axis=1)
    distances = np.abs(exact - fast).max(axis=1)

    print(f"{machine()}; weights {encoder.weights}; median of {options.repeats} runs\n")
    print("| photo | size | JPEG | exact | fast | times faster | cosine | max abs | largest |")
    print("|---|---|---|---|---|---|---|---|---|")
    for index, (name, content) in enumerate(photos.items()):
        row, spec = rows[index], runtime.preprocessing
        slow, quick = (seconds(content, spec, how, options.repeats) for how in (False, True))
        print(
            f"| {name} | {row.width}x{row.height} | {len(content) / 1e6:.1f} MB "
            f"| {1000 * slow:.1f} ms | {1000 * quick:.1f} ms | {slow / quick:.1f} "
            f"| {cosines[index]:.5f} | {distances[index]:.3f} | {exact[index].max():.2f} |"
        )


if __name__ == "__main__":
    main()
