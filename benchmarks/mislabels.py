"""Measures how many swapped labels `pomona check` puts first, and how many a vote of neighbours.

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
from pomona.analysis.neighbours.exact import Neighbours, find_neighbours
from pomona.analysis.neighbours.mislabels import find_mislabels
from pomona.analysis.neighbours.sample import Sample, draw_sample
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


def by_votes(labels: list[str | None], neighbours: Neighbours) -> list[int]:
    """Rows whose ten nearest mostly have one other label, those with most votes for it first."""
    found = []
    for row, label in enumerate(labels):
        votes = Counter(labels[n] for n in neighbours.rows[row] if labels[n] is not None)
        if label is not None and votes:
            other, most = votes.most_common(1)[0]
            if other != label and most >= 0.6 * votes.total():
                found.append((votes[label] - most, -neighbours.similarity[row, 0], row))
    return [row for *_, row in sorted(found)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", type=named, action="append", required=True, metavar="NAME=TREE")
    parser.add_argument("--encoder", type=named, action="append", required=True)
    options = parser.parse_args()
    print(machine())
    print("\n| images | classes | network | check, of 20 | votes, of 20 |\n|---|---|---|---|---|")
    for name, tree in options.set:
        for network, encoder in options.encoder:
            sample = rows_of(tree, encoder)
            counts = Counter(sample.labels)
            labels = [label if counts[label] >= SMALLEST else None for label in sample.labels]
            names = sorted({label for label in labels if label is not None})
            labelled = [row for row, label in enumerate(labels) if label is not None]
            neighbours = find_neighbours(sample.directions, 10)
            hits: dict[str, list[int]] = {"check": [], "votes": []}
            for seed in range(ROUNDS):
                random = np.random.default_rng(seed)
                planted = set(random.choice(labelled, SWAPPED, replace=False).tolist())
                given = list(labels)
                for row in planted:
                    given[row] = str(random.choice([n for n in names if n != labels[row]]))
                ranked = [each.row for each in find_mislabels(sample.directions, given)]
                hits["check"].append(len(planted & set(ranked[:SWAPPED])))
                hits["votes"].append(len(planted & set(by_votes(given, neighbours)[:SWAPPED])))
            said = " | ".join(" ".join(map(str, found)) for found in hits.values())
            print(f"| {name}: {len(labelled):,} | {len(names)} | {network} | {said} |", flush=True)


if __name__ == "__main__":
    main()
