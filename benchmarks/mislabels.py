"""Measures how many swapped labels `pomona check` and `pomona report` put first.

    python benchmarks/mislabels.py --set NAME=TREE [...] --encoder NAME=FILE [...]

Labels are the folders of the images, without folders of fewer than eight. In each of five rounds 20
labels are replaced by others at random. A list is as good as the number of them in its first 20.
Labels that were wrong before count as false.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

import pomona
from near_duplicates import named
from pomona.analysis.check.mislabels import find_mislabels
from pomona.analysis.neighbours.exact import find_neighbours
from pomona.analysis.neighbours.sample import Sample, draw_sample
from pomona.analysis.report.label_quality import suspects
from pomona.analysis.similarity import centred_directions
from pomona.analysis.vectors import open_vectors
from pomona.table.feature_table import FeatureTable
from run import machine

ROUNDS, SWAPPED, SMALLEST = 5, 20, 8


def rows_of(tree: Path, encoder: Path) -> Sample:
    with tempfile.TemporaryDirectory() as scratch:
        pomona.extract(str(tree), f"{scratch}/table", encoder=str(encoder))
        vectors = open_vectors(FeatureTable.at(f"{scratch}/table"))
        return draw_sample(centred_directions(vectors), vectors.rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", type=named, action="append", required=True, metavar="NAME=TREE")
    parser.add_argument("--encoder", type=named, action="append", required=True)
    options = parser.parse_args()
    print(machine())
    print("\n| images | classes | network | check, of 20 | report, of 20 |\n|---|---|---|---|---|")
    for name, tree in options.set:
        for network, encoder in options.encoder:
            sample = rows_of(tree, encoder)
            counts = Counter(sample.labels)
            labels = [label if counts[label] >= SMALLEST else None for label in sample.labels]
            names = sorted({label for label in labels if label is not None})
            labelled = [row for row, label in enumerate(labels) if label is not None]
            neighbours = find_neighbours(sample.directions, 10)
            hits: dict[str, list[int]] = {"check": [], "report": []}
            for seed in range(ROUNDS):
                random = np.random.default_rng(seed)
                planted = set(random.choice(labelled, SWAPPED, replace=False).tolist())
                given = list(labels)
                for row in planted:
                    given[row] = str(random.choice([n for n in names if n != labels[row]]))
                ranked = find_mislabels(sample.directions, given)
                doubted = suspects(given, neighbours)
                hits["check"].append(len(planted & {each.row for each in ranked[:SWAPPED]}))
                hits["report"].append(len(planted & {each.row for each in doubted[:SWAPPED]}))
            said = " | ".join(" ".join(map(str, found)) for found in hits.values())
            print(f"| {name}: {len(labelled):,} | {len(names)} | {network} | {said} |", flush=True)


if __name__ == "__main__":
    main()
