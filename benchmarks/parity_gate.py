"""Measures what the parity gate adds to a worker's start: the probes of each known network.

    python benchmarks/parity_gate.py [MODEL ...]

It uses one process with one thread, like each worker, and seeded weights, which do not change the
speed. All networks take half an hour, most of it for building them.
"""

from __future__ import annotations

import argparse
import time

from pomona import build_encoder
from pomona.encoder.networks import CARDS
from pomona.runtime.parity import check_parity
from pomona.runtime.registry import runtime_for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", default=list(CARDS))
    for model in parser.parse_args().models:
        encoder = build_encoder(model, "untrained:0")
        runtime = runtime_for(encoder)
        begun = time.perf_counter()
        check_parity(encoder, runtime)
        print(f"{model:22} {(time.perf_counter() - begun) * 1000:6.0f} ms", flush=True)


if __name__ == "__main__":
    main()
