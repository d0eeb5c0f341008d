"""Measures how cost grows with the number of files, on both engines, and the cost of large photos.

    python benchmarks/scale.py [--counts 8000 50000 200000] [--engines local spark] [--write]

It draws 4,000 pictures of 100x100 once. Each file is one of these with some bytes of its own after
the end of the image, so that no two files are identical and the worker computes each. The network
is a small one with seeded weights, MobileNetV2 of width 0.35, so that everything else weighs more
than in real runs. Each run is a whole process; a second run into the same table finds nothing to
do. Core-seconds do not depend on other programs as much as seconds do. Then it measures single
steps: the network alone, and passing the files of the largest tree to Spark. `--write` puts the
results into SCALE.md.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from whole_process import HERE, POMONA, cpu_seconds, descendants, timed

MODEL = ["--model", "mobilenet_v2_035", "--weights", "untrained:0"]
BASES = 4000
IN_A_FOLDER = 10_000


@dataclass
class Run:
    engine: str
    files: int
    seconds: float
    resume_s: float
    driver_mb: float
    jvm_mb: float
    worker_mb: float
    parts: list[int]
    cpu: dict[str, float]

    @property
    def rate(self) -> float:
        return self.files / self.seconds


def draw(folder: Path, count: int) -> None:
    bases = folder.with_name("bases")
    if not bases.exists():
        drawing = [sys.executable, str(HERE / "draw_images.py"), str(bases), "--count", str(BASES)]
        subprocess.run(drawing, check=True, stdout=subprocess.DEVNULL)
    contents = [path.read_bytes() for path in sorted(bases.rglob("*.jpg"))]
    for start in range(0, count, IN_A_FOLDER):
        target = folder / f"class {start // IN_A_FOLDER:03d}"
        target.mkdir(parents=True)
        for n in range(start, min(start + IN_A_FOLDER, count)):
            own = f"file {n}".encode()
            (target / f"{n:07d}.jpg").write_bytes(contents[n % len(contents)] + own)


def measure(engine: str, images: Path, count: int, table: Path) -> Run:
    command = [*POMONA, "extract", str(images), str(table), *MODEL, "--json"]
    if engine == "spark":
        command += ["--master", "local[2]"]
    seconds, report, watch = timed(command)
    if report["ok"] != count:
        sys.exit(f"{report['ok']} of {count} files are ok: {report}")
    parts = [path.stat().st_size // 2**20 for path in table.glob("*.parquet")]
    resume_s, report, _ = timed(command)
    if report["skipped"] != count:
        sys.exit(f"{report['skipped']} of {count} files were skipped: {report}")
    return Run(
        engine, count, seconds, resume_s, watch.parent, watch.jvm, watch.worker, parts, watch.cpu
    )


def photos(folder: Path, count: int = 200) -> str:
    """Peak memory of a worker for `count` JPEGs of 24 megapixels."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(0)
    for n in range(4):
        small = Image.fromarray(rng.integers(0, 255, (400, 600, 3), np.uint8))
        large = small.resize((6000, 4000), Image.Resampling.BICUBIC)
        large.save(folder / f"{n}.jpg", quality=92)
    for n in range(4, count):
        content = (folder / f"{n % 4}.jpg").read_bytes()
        (folder / f"{n}.jpg").write_bytes(content + f"photo {n}".encode())
    command = [*POMONA, "extract", str(folder), str(folder.with_name("t")), *MODEL, "--json"]
    seconds, report, watch = timed(command)
    size = sum(path.stat().st_size for path in folder.iterdir()) / count / 1e6
    return (
        f"{report['ok']} JPEGs of 6000x4000 pixels, {size:.1f} MB each: {seconds:.0f} s, at most "
        f"{watch.worker:.0f} MB in a worker process, {watch.parent:.0f} MB in their parent."
    )


def steps(encoder: Path, images: Path) -> str:
    """The cost of an image in the network alone, and of files in Spark before they are read."""
    import numpy as np

    from pomona.encoder.encoder import Encoder
    from pomona.runtime.registry import runtime_for
    from pomona.source.image_file import ImageFile
    from pomona.spark.file_shares import share_files, task_count
    from pomona.spark.session.session import session

    runtime = runtime_for(Encoder.load(encoder))
    pixels = np.random.default_rng(0).integers(0, 256, (200, 224, 224, 3), np.uint8)
    features = np.empty((len(pixels), runtime.dimension), np.float32)
    runtime.predict(pixels[:20], features[:20])
    begun = time.perf_counter()
    runtime.predict(pixels, features)
    network_ms = (time.perf_counter() - begun) / len(pixels) * 1000
    files = [ImageFile(str(path), path.stat().st_size, 0) for path in images.rglob("*.jpg")]
    with session(None, "local[2]") as spark:
        pids = [os.getpid(), *descendants(os.getpid())]
        share_files(spark, files[:1000], 8).count()
        before = sum(map(cpu_seconds, pids))
        share_files(spark, files, task_count(files, 2)).count()
        seconds = sum(map(cpu_seconds, pids)) - before
    return (
        f"The network alone takes {network_ms:.1f} ms an image. Before Spark's tasks read "
        f"{len(files):,} files,\nthe driver and its JVM take {seconds:.1f} core-seconds, "
        f"{seconds / len(files) * 1e6:.0f} µs for each file."
    )


def tables(runs: list[Run]) -> str:
    lines = [
        "| engine | files | seconds | files/s | core-seconds: parent or driver | JVM | workers | "
        "nothing to do | parent or driver MB | JVM MB | worker MB | part files | their MB |",
        f"|{'---|' * 13}",
    ]
    for run in runs:
        sizes = f"{min(run.parts)} to {max(run.parts)}"
        lines.append(
            f"| {run.engine} | {run.files:,} | {run.seconds:.0f} | {run.rate:.0f} | "
            f"{run.cpu['parent']:.0f} | {run.cpu['jvm']:.0f} | {run.cpu['workers']:.0f} | "
            f"{run.resume_s:.1f} s | {run.driver_mb:.0f} | {run.jvm_mb:.0f} | "
            f"{run.worker_mb:.0f} | {len(run.parts)} | {sizes} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", nargs="*", type=int, default=[8000, 50_000, 200_000])
    parser.add_argument("--engines", nargs="*", default=["local", "spark"])
    parser.add_argument("--no-photos", action="store_true")
    parser.add_argument("--write", action="store_true", help="put the tables into SCALE.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pomona-scale-") as name:
        scratch = Path(name)
        # So that no measured run builds the encoder: later runs take it from the cache.
        subprocess.run(
            [*POMONA, "encoder", "build", *MODEL[1:], "-o", str(scratch / "e")], check=True
        )
        runs = []
        for count in options.counts:
            images = scratch / f"images-{count}"
            draw(images, count)
            runs += [
                measure(engine, images, count, scratch / f"t-{engine}-{count}")
                for engine in options.engines
            ]
        sections = [tables(runs)] if runs else []
        if options.counts:
            sections.append(steps(scratch / "e", images))
        if not options.no_photos:
            sections.append(photos(scratch / "photos"))
    when = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d")
    page = (
        "# Scale\n\nWritten by `python benchmarks/scale.py --write` on "
        f"{when}, with {os.cpu_count()} cores. "
        "[docs/scale.md](../docs/scale.md) explains the figures.\n\n" + "\n\n".join(sections) + "\n"
    )
    print(page)
    if options.write:
        (HERE / "SCALE.md").write_text(page)


if __name__ == "__main__":
    main()
