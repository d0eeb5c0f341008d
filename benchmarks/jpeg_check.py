"""Measures the cost of checking that a JPEG is complete: `decode` against Pillow without checks.

    .venv/bin/python benchmarks/jpeg_check.py
    .venv/bin/python benchmarks/jpeg_check.py --photos FOLDER

Both decode each file in turn, in one thread, and the script compares their pixels. A row shows the
medians of the CPU time; `cost` is the median of the ratios of the rounds, less 1.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, JpegImagePlugin

from pomona.worker.colours import to_rgb
from pomona.worker.decode import decode
from pomona.worker.pillow_limits import strict_limits

ENOUGH = (224, 224)


def by_pillow(content: bytes, draft: tuple[int, int] | None) -> Image.Image:
    """Decode without any check, as Pillow does."""
    with strict_limits(10**9):
        image = JpegImagePlugin.JpegImageFile(io.BytesIO(content))
        image.getexif()
        if draft:
            image.draft(None, draft)
        image.load()
        return to_rgb(image, "")


def checked(content: bytes, draft: tuple[int, int] | None) -> Image.Image:
    """Decode as Pomona does."""
    return decode(content, draft=draft).image


def drawn(width: int, height: int, mode: str = "RGB", **options: object) -> bytes:
    """A JPEG of smooth shapes with some noise."""
    rng = np.random.default_rng(width)
    coarse = rng.integers(0, 256, (height // 40 + 2, width // 40 + 2, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    noisy = smooth + rng.normal(0, 6, smooth.shape)
    file = io.BytesIO()
    image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).convert(mode)
    image.save(file, "JPEG", quality=87, **options)
    return file.getvalue()


def seconds(way: Callable[..., Image.Image], files: list[bytes], draft: object) -> float:
    """The CPU time that one way takes for all files."""
    start = time.process_time()
    for content in files:
        way(content, draft)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=Path, help="a folder of JPEGs to measure as well")
    parser.add_argument("--rounds", type=int, default=31)
    options = parser.parse_args()
    kinds = {
        "100x100": [drawn(100, 100)] * 100,
        "500x400": [drawn(500, 400)] * 10,
        "3000x2000": [drawn(3000, 2000)],
        "3000x2000, no end marker": [drawn(3000, 2000)[:-2]],
        "3000x2000, restart markers": [drawn(3000, 2000, restart_marker_rows=1)],
        "1500x1000, progressive": [drawn(1500, 1000, progressive=True)],
        "1500x1000, grey": [drawn(1500, 1000, "L")],
        "1500x1000, CMYK": [drawn(1500, 1000, "CMYK")],
    }
    if options.photos:
        paths = sorted(options.photos.rglob("*.jp*g"))[:300]
        kinds[f"{len(paths)} photos"] = [path.read_bytes() for path in paths]
    print("| JPEG | decode | Pillow | Pomona | cost |\n|---|---|---|---|---|")
    for kind, files in kinds.items():
        for draft in (None, ENOUGH):
            whole = "no end marker" not in kind  # Pillow alone refuses such a file
            plain = files if whole else [content + b"\xff\xd9" for content in files]
            for ours, theirs in zip(files, plain, strict=True):
                assert checked(ours, draft).tobytes() == by_pillow(theirs, draft).tobytes()
            times = []
            for number in range(options.rounds):
                ways = [(by_pillow, plain), (checked, files)]
                took = {way: seconds(way, given, draft) for way, given in ways[:: (-1) ** number]}
                times.append((took[by_pillow], took[checked]))
            alone, ours = (
                1000 * statistics.median(side) / len(files) for side in zip(*times, strict=True)
            )
            cost = statistics.median(b / a for a, b in times) - 1
            name = "fast" if draft else "exact"
            print(f"| {kind} | {name} | {alone:.2f} ms | {ours:.2f} ms | {cost:+.1%} |", flush=True)


if __name__ == "__main__":
    main()
