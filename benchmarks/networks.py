"""Measure how many images per second one core computes, by network.

    python benchmarks/networks.py mobilenet_v2 efficientnet_lite0 dinov2.encoder

An argument is the name of a network, whose weights are random, or the file of an encoder. Each
round computes all of them in turn, so that a busy moment affects all. The table shows medians of
the rounds. Decoding is not part of it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from pomona.building.build import build_encoder
from pomona.encoder.description import pipeline
from pomona.encoder.encoder import Encoder
from pomona.runtime.parity import probe_images
from pomona.runtime.registry import runtime_for


def load(network: str) -> Encoder:
    if Path(network).is_file():
        return Encoder.load(network)
    return build_encoder(network, "untrained:0")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("networks", nargs="+", metavar="NETWORK")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each network in each round")
    options = parser.parse_args()
    encoders = [load(network) for network in options.networks]
    runtimes = [runtime_for(encoder) for encoder in encoders]
    rates: list[list[float]] = [[] for _ in encoders]
    for _ in range(options.rounds):
        for encoder, runtime, found in zip(encoders, runtimes, rates, strict=True):
            size = encoder.preprocessing
            image = probe_images(size.height, size.width)[:1].astype(size.pixel_type)
            features = np.empty((1, encoder.dimension), np.float32)
            runtime.predict(image, features)
            begun, count = time.perf_counter(), 0
            while (taken := time.perf_counter() - begun) < options.seconds:
                runtime.predict(image, features)
                count += 1
            found.append(count / taken)
    print("| network | pixels | dimension | images/s per core | spread |")
    print("|---|---|---|---|---|")
    for encoder, found in zip(encoders, rates, strict=True):
        spread = f"{min(found):.1f} to {max(found):.1f}"
        row = (encoder.model, pipeline(encoder.preprocessing), f"{encoder.dimension:,}")
        print(f"| {' | '.join(row)} | {statistics.median(found):.1f} | {spread} |")


if __name__ == "__main__":
    main()
