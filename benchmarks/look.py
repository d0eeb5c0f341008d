"""Measure the page of `pomona look`: how long it takes to open, its memory, its frames per second.

It draws tables of random vectors in a temporary folder, which takes 2 GB for a million rows:

    .venv/bin/python benchmarks/look.py --rows 50000 1000000
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pomona.schema import FEATURE_SCHEMA, schema_with_provenance

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import browser

DIMENSION = 512
PART = 50_000
PROVENANCE = {
    "fingerprint": "a" * 64, "model": "drawn", "weights": "untrained:0",
    "dimension": str(DIMENSION), "decode": "exact", "pomona_version": "0",
}  # fmt: skip
FRAMES = """new Promise((done) => {
  const times = [];
  const next = (now) => {
    times.push(now);
    if (times.length > 60) { done(1000 * 60 / (times[60] - times[0])); return; }
    canvas.dispatchEvent(new WheelEvent('wheel', {deltaY: times.length % 20 < 10 ? -40 : 40}));
    requestAnimationFrame(next);
  };
  requestAnimationFrame(next);
})"""


def draw_table(folder: Path, rows: int) -> None:
    random = np.random.default_rng(0)
    centres = random.normal(size=(200, DIMENSION)).astype(np.float32) * 2
    schema = schema_with_provenance(PROVENANCE)
    folder.mkdir()
    for start in range(0, rows, PART):
        count = min(PART, rows - start)
        label = random.integers(0, len(centres), count)
        vectors = centres[label] + random.standard_normal((count, DIMENSION), np.float32)
        offsets = np.arange(0, (count + 1) * DIMENSION, DIMENSION, dtype=np.int32)
        features = pa.ListArray.from_arrays(offsets, vectors.ravel())
        columns = {
            "path": [f"file:/pictures/class {k}/{start + i:07}.jpg" for i, k in enumerate(label)],
            "label": [f"class {k}" for k in label],
            "features": features.cast(FEATURE_SCHEMA.field("features").type),
            "status": ["ok"] * count,
        }
        empty = {name: pa.nulls(count) for name in schema.names if name not in columns}
        table = pa.table(
            {n: pa.array((columns | empty)[n], schema.field(n).type) for n in schema.names}, schema
        )
        pq.write_table(table, folder / f"part-{start:07}.parquet")


def peak_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) / 1024


def processor_s(pid: int) -> float:
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, after_name[11:13])) / os.sysconf("SC_CLK_TCK")


def open_once(table: Path, cache: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "pomona", "look", str(table), "--no-browser"]
    started = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=os.environ | {"POMONA_CACHE": str(cache)},
    )  # fmt: skip
    try:
        url = process.stdout.readline().strip()
        found = {"url s": time.monotonic() - started, "processor s": processor_s(process.pid)}
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
            browser.chromium(Path(profile)) as page,
        ):
            page.ask(
                "Emulation.setDeviceMetricsOverride",
                width=1400, height=900, deviceScaleFactor=1, mobile=False,
            )  # fmt: skip
            begun = time.monotonic()
            page.ask("Page.navigate", url=url)
            page.wait_for("document.body && document.body.dataset.ready === 'true'")
            page.wait_for("canvas.dataset.painted")
            found["page s"] = time.monotonic() - begun
            page.value("pictures.click()")
            reply = page.ask(
                "Runtime.evaluate", expression=FRAMES, awaitPromise=True, returnByValue=True
            )
            found["frames/s"] = reply["result"]["value"]
            near = "fetch('near?row=5&k=12').then((answer) => answer.json())"
            for name in ("first near s", "near s"):
                begun = time.monotonic()
                page.ask("Runtime.evaluate", expression=near, awaitPromise=True)
                found[name] = time.monotonic() - begun
        found["server MB"] = peak_mb(process.pid)
        return found
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[50_000])
    for rows in parser.parse_args().rows:
        with tempfile.TemporaryDirectory() as folder:
            table, cache = Path(folder, "table"), Path(folder, "cache")
            draw_table(table, rows)
            for which in ("first", "cached"):
                found = open_once(table, cache)
                numbers = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
                print(f"{rows:,} rows, {which}: {numbers}", flush=True)


if __name__ == "__main__":
    main()
