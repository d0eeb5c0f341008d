"""Measures what a lower precision saves and what it changes: bf16 and int8 against float32.

    python benchmarks/precision.py --weights FILE --images TREE [--speed-of MODEL ...] [--write]

Speed is that of one core: one process with one thread, like each of Pomona's workers. The
precisions take turns, and the fastest of the repeated rounds counts. Features are computed for
every image of the tree, whose labels are its folders; the int8 encoder is calibrated on a sample of
the same tree. `--speed-of` adds networks with seeded weights, whose features mean little and are
not compared. `--write` puts the table into docs/precision.md.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from pomona import Encoder, build_encoder, convert_encoder
from pomona.runtime.openvino import OpenVinoRuntime
from pomona.source.image_file import read_batches
from pomona.source.labels import parse_label_rule
from pomona.source.listing import Source
from pomona.worker.featurize import encode_images
from pomona.worker.prepare import EXACT
from run import machine

PAGE = Path(__file__).resolve().parent.parent / "docs" / "precision.md"
HEAD = """\
| network | precision | constants | inference alone, images/s | with decoding, images/s \
| cosine to float32: mean, min | label of the nearest neighbour is its own \
| nearest neighbour is float32's |
|---|---|---|---|---|---|---|---|"""


@dataclass
class ImageStore:
    contents: pa.Array
    labels: np.ndarray


@dataclass
class Measured:
    encoder: Encoder
    predict_s: list[float] = field(default_factory=list)
    whole_s: list[float] = field(default_factory=list)
    features: np.ndarray | None = None


def read(tree: str) -> ImageStore:
    files = Source(tree).files(print)
    batches = list(read_batches(files, parse_label_rule("parent")))
    contents = pa.chunked_array([batch["content"] for batch in batches]).combine_chunks()
    labels = np.array([label for batch in batches for label in batch["label"].to_pylist()])
    return ImageStore(contents, labels)


def time_speed(encoders: list[Measured], images: ImageStore, count: int, repeats: int) -> None:
    """Measure the seconds for `count` images, spread over the tree."""
    every = max(1, len(images.contents) // count)
    some = images.contents.take(pa.array(range(0, len(images.contents), every)[:count]))
    runtimes = [OpenVinoRuntime(one.encoder) for one in encoders]
    for turn in range(repeats + 1):
        for one, runtime in zip(encoders, runtimes, strict=True):
            spec = runtime.preprocessing
            started = time.perf_counter()
            rows, features = encode_images(some, None, runtime, EXACT)
            whole = (time.perf_counter() - started) / len(rows)
            pixels = np.random.default_rng(turn).integers(
                0, 256, (len(features), spec.height, spec.width, 3), np.uint8
            )
            started = time.perf_counter()
            runtime.predict(pixels, features)
            predict = (time.perf_counter() - started) / len(features)
            if turn:  # the first round warms up
                one.whole_s.append(whole)
                one.predict_s.append(predict)


def compute_features(encoders: list[Measured], images: ImageStore) -> np.ndarray:
    """Compute the unit vectors of all readable images; return their labels."""
    for one in encoders:
        rows, features = encode_images(images.contents, None, OpenVinoRuntime(one.encoder), EXACT)
        one.features = features / np.linalg.norm(features, axis=1, keepdims=True)
        ok = np.array([row.status == "ok" for row in rows])
    return images.labels[ok]


def nearest(vectors: np.ndarray) -> np.ndarray:
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -2)
    return similar.argmax(axis=1)


def line(one: Measured, first: Measured, labels: np.ndarray | None) -> str:
    encoder = one.encoder
    speeds = []
    for name in ("predict_s", "whole_s"):
        best, of_first = min(getattr(one, name)), min(getattr(first, name))
        speeds.append(f"{1 / best:.0f} ({of_first / best:.2f} times)")
    agreement = "- | - | -"
    if labels is not None:
        cosine = (one.features * first.features).sum(axis=1)
        result, exact = nearest(one.features), nearest(first.features)
        agreement = (
            f"{cosine.mean():.4f}, {cosine.min():.4f} | {(labels[result] == labels).mean():.4f} "
            f"| {(result == exact).mean():.3f}"
        )
    return (
        f"| {encoder.model} | {encoder.precision} | {len(encoder.constants) / 1e6:.1f} MB "
        f"| {' | '.join(speeds)} | {agreement} |"
    )


def measure(model: str, weights: str, images: ImageStore, options: argparse.Namespace) -> list[str]:
    exact = build_encoder(model, weights)
    encoders = [Measured(exact), Measured(convert_encoder(exact, "bf16"))]
    started = time.perf_counter()
    encoders.append(Measured(convert_encoder(exact, "int8", options.images)))
    print(f"{model}: calibrated and quantized in {time.perf_counter() - started:.0f} s", flush=True)
    trained = not weights.startswith("untrained:")
    count = options.count if trained else max(10, options.count // 5)
    time_speed(encoders, images, count, options.repeats)
    labels = compute_features(encoders, images) if trained else None
    return [line(one, encoders[0], labels) for one in encoders]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--weights", required=True, help="a Keras weights file of the model")
    parser.add_argument("--images", required=True, help="a tree of images in class folders")
    parser.add_argument("--speed-of", nargs="*", default=[], help="networks with seeded weights")
    parser.add_argument("--count", type=int, default=200, help="images in a round of speed")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="put the table into docs/precision.md")
    options = parser.parse_args()
    images = read(options.images)
    with tempfile.TemporaryDirectory(prefix="pomona-bench-") as cache:
        os.environ["POMONA_CACHE"] = cache
        lines = measure(options.model, options.weights, images, options)
        for model in options.speed_of:
            lines += measure(model, "untrained:0", images, options)
    text = (
        f"{dt.date.today().isoformat()}, {machine()}; {len(images.contents):,} files; one core, "
        f"the fastest of {options.repeats} rounds.\n\n{HEAD}\n" + "\n".join(lines) + "\n"
    )
    print(text)
    if options.write:
        before, mark, rest = PAGE.read_text().partition("<!-- measured -->\n")
        _, end, after = rest.partition("\n<!-- end -->")
        PAGE.write_text(f"{before}{mark}{text}{end}{after}")


if __name__ == "__main__":
    main()
