"""Measures classifiers: images of none of the classes, and tables that are larger than memory.

    python benchmarks/classifiers.py unlike TABLE [OTHER ...] [--each 100]
    python benchmarks/classifiers.py large [--rows 10000000] [--dimension 128] [--memory 2]

`unlike` trains without one class of TABLE after the other, on a few images of each. Then it asks
how well the probability and the nearness tell images of the classes from those of the class left
out, and from the images of other tables: the area under the ROC curve is 1 if they always do, and
0.5 by chance.

The vectors of `large` are drawn: normal noise around the centre of each class. The training is a
process of its own. The script reports its time, its processor time and its peak resident size.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sklearn.metrics import roc_auc_score

import pomona
from explore import measured, row
from pomona.schema import FEATURE_SCHEMA, schema_with_provenance
from pomona.worker.featurize import vectors_array
from run import machine

BLOCK = 50_000
NOISE = 3.0  # some images are nearer to the centre of another class


def draw(folder: Path, rows: int, dimension: int, classes: int) -> None:
    """Write the table, with one part file per block."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((classes, dimension), np.float32)
    provenance = {
        "fingerprint": "0" * 64, "model": "random numbers", "weights": "none",
        "dimension": str(dimension), "decode": "exact",
    }  # fmt: skip
    schema = schema_with_provenance(provenance)
    folder.mkdir()
    for start in range(0, rows, BLOCK):
        size = min(BLOCK, rows - start)
        codes = random.integers(classes, size=size)
        noise = random.standard_normal((size, dimension), np.float32)
        columns = {
            "path": pa.array([f"file:/drawn/{start + i}.jpg" for i in range(size)]),
            "label": pa.array(codes.astype(str)),
            "features": vectors_array([True] * size, centres[codes] + NOISE * noise),
            "status": pa.array(["ok"] * size),
        }
        arrays = [columns.get(f.name, pa.nulls(size, f.type)) for f in FEATURE_SCHEMA]
        table = pa.Table.from_arrays(arrays, FEATURE_SCHEMA.names).cast(schema)
        file = folder / f"part-{start:09d}.parquet"
        pq.write_table(table, file, row_group_size=5_000, compression="none", use_dictionary=False)


def unlike(table: Path, others: list[Path], each: int) -> None:
    """Print a row for each class that is left out, and one for each other table."""
    everything = pq.read_table(table)
    everything = everything.filter(pc.equal(everything["status"], "ok"))
    labels = np.array(everything["label"].to_pylist())
    print("| unknown | area: probability | area: nearness | known at 0.05 | unknown at 0.05 |")
    print("|---|---|---|---|---|")
    for left_out in [*np.unique(labels), None]:
        random = np.random.default_rng(0)
        known = np.flatnonzero(labels != left_out)
        learned = np.concatenate([
            random.permutation(known[labels[known] == label])[:each]
            for label in np.unique(labels[known])
        ])  # fmt: skip
        tested = np.setdiff1d(known, learned)
        with tempfile.TemporaryDirectory() as folder:
            pq.write_table(everything.take(learned), Path(folder, "part-0.parquet"))
            probe = pomona.train(folder, test_share=0).classifier
        good = scores(probe, everything.take(tested))
        if left_out is not None:
            unknown = everything.filter(pc.equal(everything["label"], left_out))
            compare(f"{table.name}: {left_out}", good, scores(probe, unknown))
        for other in others if left_out is None else []:
            unknown = pq.read_table(other)
            unknown = unknown.filter(pc.equal(unknown["status"], "ok"))
            compare(f"{other.name}, known: {table.name}", good, scores(probe, unknown))


def scores(probe: pomona.Classifier, rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability of the chosen class, and the nearness."""
    vectors = np.array(rows["features"].to_pylist(), np.float32)
    return probe.probabilities(vectors).max(axis=1), probe.nearness(vectors)


def compare(
    name: str, known: tuple[np.ndarray, np.ndarray], unknown: tuple[np.ndarray, np.ndarray]
) -> None:
    """Print how well two scores tell known and unknown images apart."""
    truth = np.repeat([True, False], [len(known[0]), len(unknown[0])])
    areas = [
        roc_auc_score(truth, np.concatenate(pair)) for pair in zip(known, unknown, strict=True)
    ]
    rejected = [(scores[1] <= 0.05).mean() for scores in (known, unknown)]
    print(f"| {name} | {areas[0]:.3f} | {areas[1]:.3f} | {rejected[0]:.1%} | {rejected[1]:.1%} |")


def large(rows: int, dimension: int, classes: int, memory: float) -> None:
    """Train on drawn vectors, and print a row of a table."""
    with tempfile.TemporaryDirectory(prefix="pomona-classifiers-") as scratch:
        draw(Path(scratch, "table"), rows, dimension, classes)
        print(f"{machine()}\n")
        print("| what | seconds | on the processors | memory | |\n|---|---|---|---|---|")
        classifier = Path(scratch, "classifier")
        command = ("-m", "pomona", "train", Path(scratch, "table"), "-o", classifier, "--json")
        out, _, took = measured(*command, "--memory", str(memory))
        found = json.loads(out)
        where = "in a file" if found["in_file"] else "in memory"
        accuracy = f"accuracy {found['evaluation']['accuracy']:.3f}"
        note = f"{found['trained_on']:,} vectors {where}, {accuracy}"
        row(f"{rows:,} x {dimension}, {classes} classes", took, note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("unlike")
    command.add_argument("table", type=Path)
    command.add_argument("others", type=Path, nargs="*")
    command.add_argument("--each", type=int, default=100)
    command.set_defaults(run=unlike)
    command = commands.add_parser("large")
    command.add_argument("--rows", type=int, default=10_000_000)
    command.add_argument("--dimension", type=int, default=128)
    command.add_argument("--classes", type=int, default=10)
    command.add_argument("--memory", type=float, default=2.0, help="GiB, as of pomona train")
    command.set_defaults(run=large)
    given = vars(parser.parse_args())
    given.pop("run")(**given)


if __name__ == "__main__":
    main()
