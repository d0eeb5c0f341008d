"""Swapped labels are the first of the list, and the measure equals a slow one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pomona.analysis.neighbours import mislabels
from pomona.analysis.neighbours.mislabels import find_mislabels
from pomona.analysis.vectors import unit


def clusters(rows: int, classes: int, spread: float, seed: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, 32))
    drawn = centres[np.arange(rows) % classes] + random.normal(scale=spread, size=(rows, 32))
    return unit(drawn.astype(np.float32))


def test_planted_swaps_come_first() -> None:
    matrix = clusters(400, 20, 1.0)
    labels = [f"class {number % 20}" for number in range(400)]
    swapped = list(range(0, 400, 21))
    for row in swapped:
        labels[row] = f"class {(row + 7) % 20}"
    found = find_mislabels(matrix, labels)
    assert {each.row for each in found[: len(swapped)]} == set(swapped)
    assert all(each.other == f"class {each.row % 20}" for each in found[: len(swapped)])


def slowly(matrix: np.ndarray, labels: Sequence[str | None], row: int) -> dict[str, float]:
    """The mean of the five largest similarities to the images of each class."""
    means = {}
    for name in {label for label in labels if label is not None and labels.count(label) > 1}:
        others = [n for n, label in enumerate(labels) if label == name and n != row]
        means[name] = float(np.mean(sorted(matrix[others] @ matrix[row])[-5:]))
    return means


@given(
    st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=40),
    st.integers(0, 2**32),
    st.integers(1, 9),
)
def test_the_measure_equals_a_slow_one_for_any_block_size(
    labels: list[str | None], seed: int, block: int
) -> None:
    matrix = unit(np.random.default_rng(seed).normal(size=(len(labels), 4)).astype(np.float32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mislabels, "_ROWS", block)
        found = {each.row: each for each in find_mislabels(matrix, labels)}
    for row, label in enumerate(labels):
        means = slowly(matrix, labels, row)
        if label is None or label not in means or len(means) < 2:
            assert row not in found
            continue
        own = means.pop(label)
        other = max(means, key=lambda name: means[name])
        if means[other] > own + 1e-6:
            assert found[row].other_similarity == pytest.approx(means[other], abs=1e-5)
            assert found[row].own_similarity == pytest.approx(own, abs=1e-5)
        elif means[other] < own - 1e-6:
            assert row not in found
