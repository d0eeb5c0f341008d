"""Measures weights by nearest neighbours, with Pomona's own features: what users get.

    python evaluate.py --weights untrained:0 drawn mobilenet_v2.weights.h5 -- fruits/ validation/

For every image its nearest neighbour by cosine among all others; the figure is the share of images
whose neighbour has their label. Labels are the names of folders.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import pomona


def agreement(features: np.ndarray, labels: np.ndarray) -> float:
    """Leave-one-out nearest neighbour agreement of (N, D) features and (N,) labels."""
    unit = features / (np.linalg.norm(features, axis=1, keepdims=True) + 1e-12)
    likeness = unit @ unit.T
    np.fill_diagonal(likeness, -np.inf)
    return float((labels[likeness.argmax(1)] == labels).mean())


def chosen(folder: Path, per_class: int, into: Path) -> Path:
    """Link up to `per_class` images of each class folder, the same ones each time."""
    for within in sorted(p for p in folder.iterdir() if p.is_dir()):
        files = sorted(p for p in within.iterdir() if p.is_file() and p.stat().st_size)
        (into / within.name).mkdir(parents=True)
        for file in random.Random(0).sample(files, min(per_class, len(files))):
            (into / within.name / file.name).symlink_to(file.resolve())
    return into


def measure(folder: Path, weights: str, workers: int) -> tuple[float, int, int]:
    """Agreement, images and classes of a folder with one kind of weights."""
    with tempfile.TemporaryDirectory() as scratch:
        pomona.extract(folder, Path(scratch, "features"), weights=weights, workers=workers)
        table = pq.read_table(Path(scratch, "features"), columns=["label", "features", "status"])
    rows = [row for row in table.to_pylist() if row["status"] == "ok"]
    labels = np.array([row["label"] for row in rows])
    features = np.array([row["features"] for row in rows], np.float32)
    return agreement(features, labels), len(rows), len(set(labels))


def main() -> None:
    """Print one row for each folder, one column for each kind of weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", help="trees with a folder for each class")
    parser.add_argument("--weights", nargs="+", default=["untrained:0", "drawn"])
    parser.add_argument("--per-class", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    asked = parser.parse_args()
    names = [w if ":" in w or "/" not in w else Path(w).name for w in asked.weights]
    print(f"nearest neighbour, leave one out; {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC")
    print("| folder | images | classes |", " | ".join(names), "|")
    print("|---|---|---|" + "---|" * len(names))
    for folder in asked.folders:
        with tempfile.TemporaryDirectory() as scratch:
            images = chosen(folder, asked.per_class, Path(scratch, "images"))
            told = [measure(images, weights, asked.workers) for weights in asked.weights]
        figures = " | ".join(f"{share:.3f}" for share, _, _ in told)
        print(f"| {folder.name} | {told[0][1]} | {told[0][2]} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
