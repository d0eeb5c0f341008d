"""Measures Pomona against the reference notebook and a bare loop.

    python benchmarks/run.py --weights FILE [--reference-python PYTHON] [--write]

For each number of images it runs whole processes in turn, several times: Pomona's two engines,
the bare loop, and the reference notebook with the Python of an environment made from
requirements.txt (skipped without --reference-python). The time is that of the whole process; the
median of the repeated runs counts. Earlier runs, which are not counted, warm the file cache, build
the encoder, and let Java 19 or later write its archive of Spark's classes
(pomona/spark/session/class_archive.py). `--write` puts the table into RESULTS.md.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from whole_process import HERE, POMONA, timed

_BEFORE = {"pomona, embedded": 1, "pomona, Spark local[2]": 2}  # runs that are not counted


@dataclass
class Measured:
    seconds: list[float] = field(default_factory=list)
    told: dict = field(default_factory=dict)
    worker_mb: float = 0.0
    parent_mb: float = 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def take(command: list[str], into: Measured) -> None:
    seconds, into.told, memory = timed(command)
    into.seconds.append(seconds)
    into.worker_mb = max(into.worker_mb, memory.worker)
    into.parent_mb = max(into.parent_mb, memory.parent)


def commands(images: Path, scratch: Path, options: argparse.Namespace, turn: int) -> dict:
    weights = ["--weights", options.weights]
    table = str(scratch / f"table-{turn}-{images.name}")
    runs = {
        "bare loop, 2 processes": [
            sys.executable,
            str(HERE / "bare_loop.py"),
            str(images),
            str(scratch / "graph.xml"),
        ],
        "pomona, embedded": [*POMONA, "extract", str(images), table, *weights, "--json"],
        "pomona, Spark local[2]": [
            *POMONA, "extract", str(images), f"{table}-s", *weights, "--master", "local[2]",
            "--json",
        ],
    }  # fmt: skip
    if options.reference_python:
        runs["reference notebook, Spark local[2]"] = [
            options.reference_python,
            str(HERE / "reference_notebook.py"),
            str(images),
            f"{table}-r.parquet",
            *weights,
        ]
    return runs


def measure(options: argparse.Namespace, scratch: Path) -> dict[tuple[str, int], Measured]:
    from pomona import build_encoder

    encoder = build_encoder(weights=options.weights)
    (scratch / "graph.xml").write_bytes(encoder.graph)
    (scratch / "graph.bin").write_bytes(encoder.constants)
    results: dict[tuple[str, int], Measured] = {}
    for count in options.counts:
        images = scratch / f"images-{count}"
        drawing = [sys.executable, str(HERE / "draw_images.py"), str(images), "--count", str(count)]
        subprocess.run(drawing, check=True, stdout=subprocess.DEVNULL)
        for name, command in commands(images, scratch, options, 0).items():
            for before in range(_BEFORE.get(name, 0)):
                timed([*command[:5], f"{command[5]}-warm{before}", *command[6:]])
        for turn in range(options.repeats):
            for name, command in commands(images, scratch, options, turn).items():
                result = results.setdefault((name, count), Measured())
                if turn and name.startswith("reference") and not options.repeat_reference:
                    continue
                take(command, result)
    return results


def table(results: dict[tuple[str, int], Measured], counts: list[int]) -> str:
    lines = [
        "| what | images | seconds (median of runs) | images/s | against the notebook "
        "| against the bare loop | largest worker, parent |",
        "|---|---|---|---|---|---|---|",
    ]
    for count in counts:
        notebook = results.get(("reference notebook, Spark local[2]", count))
        bare = results["bare loop, 2 processes", count]
        for (name, images), result in results.items():
            if images != count:
                continue
            spread = ", ".join(f"{seconds:.1f}" for seconds in result.seconds)
            lines.append(
                f"| {name} | {count:,} | {result.median:.1f} ({spread}) "
                f"| {count / result.median:.0f} "
                f"| {f'{notebook.median / result.median:.1f} times' if notebook else '-'} "
                f"| {100 * bare.median / result.median:.0f} % "
                f"| {memory(result)} |"
            )
        loop = bare.told["loop_seconds"]
        lines.append(
            f"| the loop itself, without start-up | {count:,} | {loop:.1f} | {count / loop:.0f} "
            "| | | |"
        )
    return "\n".join(lines)


def memory(measured: Measured) -> str:
    if not measured.worker_mb:
        return "-"
    return f"{measured.worker_mb:.0f} MB, {measured.parent_mb:.0f} MB"


def machine() -> str:
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", required=True, help="a Keras weights file of MobileNetV2")
    parser.add_argument("--reference-python", help="Python of the notebook's environment")
    parser.add_argument("--counts", type=int, nargs="+", default=[2000, 8000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--repeat-reference", action="store_true", help="the notebook as often")
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pomona-bench-") as scratch:
        results = measure(options, Path(scratch))
    text = (
        f"{dt.date.today().isoformat()}, {machine()}; JPEGs of 100x100 drawn by "
        f"`draw_images.py`, {options.repeats} runs.\n\n{table(results, options.counts)}\n"
    )
    print(text)
    if options.write:
        page = HERE / "RESULTS.md"
        before, mark, rest = page.read_text().partition("<!-- measured -->\n")
        _, end, after = rest.partition("\n<!-- end -->")
        page.write_text(f"{before}{mark}{text}{end}{after}")


if __name__ == "__main__":
    main()
