"""Measures tar and zip files against the same images in a folder; prints a Markdown table.

    python benchmarks/archives.py --weights untrained:0 --count 4000

It draws JPEGs of 500x333, packs them by GNU tar and Info-ZIP, and reports for each kind the images
that are listed and read per second in one process, and the rate of `pomona extract` (the median of
several runs, in turn).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from PIL import Image

import pomona
from draw_images import QUALITY, picture
from pomona.job.job import JobPaths, images_of
from run import machine

WIDTH, HEIGHT = 500, 333
PACKED = {
    "s.tar": ["tar", "-cf"],
    "s.tar.gz": ["tar", "-czf"],
    "s.zip": ["zip", "-qr"],
    "stored.zip": ["zip", "-qr0"],
}


def draw(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        pixels = picture(0, number, number / count, WIDTH)[(WIDTH - HEIGHT) // 2 :][:HEIGHT]
        Image.fromarray(pixels).save(folder / f"{number:06}.jpg", quality=QUALITY)


def listed_and_read(source: Path, table: Path) -> tuple[float, float]:
    """Images per second of one process, without decoding."""
    images = images_of(JobPaths(str(source), str(table)))
    started = time.perf_counter()
    files = list(images.files(lambda _: None))
    listed = time.perf_counter()
    for content, error in images.reader.read(files):
        assert content, error
    done = time.perf_counter()
    return len(files) / (listed - started), len(files) / (done - listed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="untrained:0")
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    encoder = pomona.build_encoder("mobilenet_v2", options.weights)
    with tempfile.TemporaryDirectory() as given:
        folder = Path(given)
        draw(folder / "images", options.count)
        for name, command in PACKED.items():
            subprocess.run([*command, folder / name, "."], cwd=folder / "images", check=True)
        sources = ["images", *PACKED]
        rates: dict[str, list[float]] = {source: [] for source in sources}
        quick = {source: listed_and_read(folder / source, folder / "t") for source in sources}
        for number in range(options.repeats):
            for source in sources:
                table = folder / f"t{number}-{source}"
                summary = pomona.extract(folder / source, table, encoder=encoder)
                assert summary.ok == options.count
                rates[source].append(summary.images_per_second)
    plain = statistics.median(rates["images"])
    print(f"{options.count} JPEGs of {WIDTH}x{HEIGHT}, {machine()}\n")
    print("| source | listed/s | read/s | extracted/s | of the folder's rate |")
    print("|---|---|---|---|---|")
    for source in sources:
        rate = statistics.median(rates[source])
        listing, reading = quick[source]
        print(f"| {source} | {listing:,.0f} | {reading:,.0f} | {rate:.1f} | {rate / plain:.0%} |")


if __name__ == "__main__":
    main()
