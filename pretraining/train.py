"""Trains MobileNetV2 on drawn pictures, on CPUs, with the step in native/.

    python train.py SHARDS RUN --stages 64:3000,128:300

A run is continued by the same command: it starts from the folder's last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ahead import ahead
from batches import Shards, batch
from dictionary import SIZE, Dictionary
from heads import Heads, Shares
from native import FEATURES, Network, adamw, initial
from schedule import learning_rate, stages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_CHECKPOINT_STEPS = 100


class Run:
    """Parameters, the optimizer's moments and the step: all that a checkpoint holds."""

    def __init__(self, network: Network, classes: int, seed: int) -> None:
        self.parameters, self.decays = initial(network, seed)
        self.classes = classes
        self.heads = Heads(FEATURES, classes, SIZE, seed)
        self.moments = (np.zeros_like(self.parameters), np.zeros_like(self.parameters))
        shape = self.heads.parameters
        self.head_moments = (np.zeros_like(shape), np.zeros_like(shape))
        self.step = 0
        self.cpu_seconds = 0.0

    def save(self, path: Path, network: Network) -> None:
        """Write a checkpoint, in one piece or not at all."""
        arrays = {f"network_{i}": a for i, a in enumerate(network.to_keras(self.parameters))}
        arrays |= {
            "moment": self.moments[0], "square": self.moments[1],
            "heads": self.heads.parameters, "head_moment": self.head_moments[0],
            "head_square": self.head_moments[1], "step": np.array(self.step),
            "classes": np.array(self.classes),
            "cpu_seconds": np.array(self.cpu_seconds + time.process_time()),
        }  # fmt: skip
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, **arrays)
        partial.rename(path)

    def start_from(self, path: Path, network: Network) -> None:
        """Take the network of another run, and its classes' prototypes if they are as many."""
        with np.load(path) as kept:
            arrays_kept = sum(name.startswith("network_") for name in kept)
            self.parameters = network.from_keras([kept[f"network_{i}"] for i in range(arrays_kept)])
            if "classes" in kept and kept["classes"] == self.classes:
                split = FEATURES * self.classes  # what is asked besides may differ
                self.heads.parameters[:split] = kept["heads"][:split]

    def load(self, path: Path, network: Network) -> None:
        """Take up a checkpoint."""
        with np.load(path) as kept:
            if kept["heads"].shape != self.heads.parameters.shape:
                raise SystemExit(
                    f"{path} is of a version that asked for other things: begin a run with --start"
                )
            arrays_kept = sum(name.startswith("network_") for name in kept)
            arrays = [kept[f"network_{i}"] for i in range(arrays_kept)]
            self.parameters = network.from_keras(arrays)
            self.moments = kept["moment"], kept["square"]
            self.heads.parameters = kept["heads"]
            self.head_moments = kept["head_moment"], kept["head_square"]
            self.step, self.cpu_seconds = int(kept["step"]), float(kept["cpu_seconds"])


def prepared(
    shards: Shards,
    dictionary: Dictionary,
    seed: int,
    first: int,
    crops: tuple[int, int, int],
    threads: int = 1,
) -> Iterator[tuple[Floats, ...]]:
    """Batches from a step on, of `crops`: how many, of how many pictures, and their side.

    Each depends on the seed and the step alone.
    """

    def one(step: int) -> tuple[Floats, ...]:
        images, classes = batch(shards, np.random.default_rng([seed, 4, step]), *crops)
        return images, classes, dictionary(images)

    with ThreadPoolExecutor(threads) as pool:
        coming = deque(pool.submit(one, first + i) for i in range(2 * threads))
        for step in count(first + 2 * threads):
            yield coming.popleft().result()
            coming.append(pool.submit(one, step))


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shards", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--stages", type=stages, default=stages("64:3000,128:300"))
    parser.add_argument("--use", type=int, help="how many of the shards to use")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=0.02)
    parser.add_argument("--class-share", type=float, default=0.3, help="weight of their loss")
    parser.add_argument("--description-share", type=float, default=1.0, help="likewise")
    parser.add_argument(
        "--crop-share",
        type=float,
        default=0.0,
        help="of telling two crops of a picture from others",
    )
    parser.add_argument("--start", type=Path, help="another run's checkpoint to begin with")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    asked.run.mkdir(parents=True, exist_ok=True)
    (asked.run / "train.pid").write_text(f"{os.getpid()}\n")
    shards = Shards(asked.shards, asked.use)
    dictionary = Dictionary.load(asked.run / "dictionary.npz", shards, asked.seed)
    checkpoint, log = asked.run / "last.npz", asked.run / "log.jsonl"
    run, begun = None, 0
    for side, steps in asked.stages:
        network = Network(asked.batch, side)
        if run is None:
            run = Run(network, shards.classes, asked.seed)
            if asked.start and not checkpoint.exists():
                run.start_from(asked.start, network)
        if checkpoint.exists():
            run.load(checkpoint, network)
        _stage(asked, (shards, dictionary), network, run, (side, begun + steps))
        begun += steps
        run.save(checkpoint, network)
        run.cpu_seconds -= time.process_time()  # `save` adds the whole process's again
        del network
    print(f"done: {checkpoint}, {log}", file=sys.stderr)


def _stage(
    asked: argparse.Namespace,
    pictures: tuple[Shards, Dictionary],
    network: Network,
    run: Run,
    stage: tuple[int, int],
) -> None:
    side, end = stage
    total = sum(steps for _, steps in asked.stages)
    shares = Shares(asked.class_share, asked.description_share, asked.crop_share)
    smooth: dict[str, float] = {}
    crops = (asked.batch, asked.batch // 2 if asked.crop_share else asked.batch, side)
    source = ahead(prepared(*pictures, asked.seed, run.step, crops))
    while run.step < end:
        images, classes, wanted = next(source)
        features = network.forward(run.parameters, images)
        loss = run.heads.loss(features, classes, wanted, shares)
        gradient = network.backward(run.parameters, np.ascontiguousarray(loss.by_features))
        run.step += 1
        rate = learning_rate(asked.rate, run.step, asked.stages)
        adamw(run.parameters, gradient, run.moments, run.decays, rate, asked.weight_decay, run.step)
        adamw(
            run.heads.parameters, loss.by_parameters, run.head_moments, run.heads.decays, rate, 0.0,
            run.step,
        )  # fmt: skip
        smooth = {k: 0.97 * smooth.get(k, v) + 0.03 * v for k, v in loss.told.items()}
        if run.step % 20 == 0 or run.step == end:
            line = {"step": run.step, "side": side, "rate": round(rate, 6)}
            line |= {k: round(v, 4) for k, v in smooth.items()}
            line["time"] = time.strftime("%H:%M:%S", time.gmtime())
            with (asked.run / "log.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(f"\r{run.step}/{total} {line}", end="", file=sys.stderr)
        if run.step % _CHECKPOINT_STEPS == 0:
            run.save(asked.run / "last.npz", network)


if __name__ == "__main__":
    main()
