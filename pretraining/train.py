"""Trains MobileNetV2 on drawn pictures, on CPUs, with the step in native/.

    python train.py SHARDS RUN --stages 64:3000,128:300

A run is continued by the same command: it starts from the folder's last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from batches import Shards, batch
from dictionary import SIZE, Dictionary
from native import FEATURES, Network, adamw, initial
from schedule import learning_rate, stages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

TEMPERATURE = 20.0
SMOOTHING = 0.1
DESCRIPTION_SCALE = 20.0
_CHECKPOINT_STEPS = 100


@dataclass(frozen=True)
class Shares:
    """Weights of the losses."""

    classes: float
    descriptions: float


class Heads:
    """What is asked of the features: the class by cosine, and the description of the crop."""

    def __init__(self, classes: int, seed: int) -> None:
        rng = np.random.default_rng([seed, 5])
        self.classes = classes
        size = FEATURES * classes + FEATURES * SIZE + SIZE
        self.parameters = rng.normal(0, 0.02, size).astype(np.float32)
        self.decays = np.zeros(size, np.float32)

    def loss(
        self, features: Floats, classes: NDArray[np.int64], wanted: Floats, shares: Shares
    ) -> tuple[dict[str, float], Floats, Floats]:
        """Losses, gradient by the features and by the heads' parameters.

        Args:
            features: (N, 1280).
            classes: (N,).
            wanted: descriptions, (N, 384).
            shares: weights of the losses.
        """
        n = len(features)
        split = FEATURES * self.classes
        prototypes = self.parameters[:split].reshape(self.classes, FEATURES)
        regression = self.parameters[split:-SIZE].reshape(FEATURES, SIZE)
        gradient = np.empty_like(self.parameters)
        length = np.linalg.norm(features, axis=1, keepdims=True) + 1e-6
        unit = features / length
        size = np.linalg.norm(prototypes, axis=1, keepdims=True) + 1e-6
        towards = prototypes / size
        logits = TEMPERATURE * (unit @ towards.T)
        logits -= logits.max(1, keepdims=True)
        chance = np.exp(logits)
        chance /= chance.sum(1, keepdims=True)
        rows = np.arange(n)
        hit = chance[rows, classes]
        loss = float(-np.log(hit + 1e-12).mean())
        right = float((chance.argmax(1) == classes).mean())
        chance -= SMOOTHING / self.classes
        chance[rows, classes] -= 1 - SMOOTHING
        chance *= TEMPERATURE * shares.classes / n
        d_unit = chance @ towards
        d_features = (d_unit - unit * (unit * d_unit).sum(1, keepdims=True)) / length
        d_towards = chance.T @ unit
        d_prototypes = (d_towards - towards * (towards * d_towards).sum(1, keepdims=True)) / size
        gradient[:split] = d_prototypes.ravel()
        error = features @ regression + self.parameters[-SIZE:] - wanted
        described = float((error**2).mean())
        error *= 2 * shares.descriptions * DESCRIPTION_SCALE / (n * SIZE)
        gradient[split:-SIZE] = (features.T @ error).ravel()
        gradient[-SIZE:] = error.sum(0)
        d_features += error @ regression.T
        told = {"class": loss, "right": right, "description": described}
        return told, np.ascontiguousarray(d_features), gradient


class Run:
    """Parameters, the optimizer's moments and the step: all that a checkpoint holds."""

    def __init__(self, network: Network, classes: int, seed: int) -> None:
        self.parameters, self.decays = initial(network, seed)
        self.heads = Heads(classes, seed)
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
            split = FEATURES * self.heads.classes
            # Heads of another version differ behind the prototypes: by far fewer than a class more.
            if "heads" in kept and 0 <= kept["heads"].size - split < FEATURES * 1000:
                self.heads.parameters[:split] = kept["heads"][:split]

    def load(self, path: Path, network: Network) -> None:
        """Take up a checkpoint."""
        with np.load(path) as kept:
            arrays_kept = sum(name.startswith("network_") for name in kept)
            arrays = [kept[f"network_{i}"] for i in range(arrays_kept)]
            self.parameters = network.from_keras(arrays)
            self.moments = kept["moment"], kept["square"]
            self.heads.parameters = kept["heads"]
            self.head_moments = kept["head_moment"], kept["head_square"]
            self.step, self.cpu_seconds = int(kept["step"]), float(kept["cpu_seconds"])


def ahead(make: Iterator[tuple[Floats, ...]], depth: int = 4) -> Iterator[tuple[Floats, ...]]:
    """Prepare batches in a thread of their own."""
    ready: queue.Queue[tuple[Floats, ...]] = queue.Queue(depth)

    def work() -> None:
        for item in make:
            ready.put(item)

    threading.Thread(target=work, daemon=True).start()
    while True:
        yield ready.get()


def prepared(
    shards: Shards,
    dictionary: Dictionary,
    seed: int,
    first: int,
    crops: tuple[int, int],
    threads: int = 1,
) -> Iterator[tuple[Floats, ...]]:
    """Batches from a step on, of `crops`: how many, and their side.

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
    shares = Shares(asked.class_share, asked.description_share)
    smooth: dict[str, float] = {}
    source = ahead(prepared(*pictures, asked.seed, run.step, (asked.batch, side)))
    while run.step < end:
        images, classes, wanted = next(source)
        features = network.forward(run.parameters, images)
        told, d_features, d_heads = run.heads.loss(features, classes, wanted, shares)
        gradient = network.backward(run.parameters, d_features)
        run.step += 1
        rate = learning_rate(asked.rate, run.step, asked.stages)
        adamw(run.parameters, gradient, run.moments, run.decays, rate, asked.weight_decay, run.step)
        adamw(
            run.heads.parameters, d_heads, run.head_moments, run.heads.decays, rate, 0.0, run.step
        )
        smooth = {k: 0.97 * smooth.get(k, v) + 0.03 * v for k, v in told.items()}
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
