"""Groups around leaders equal those of the definition, and contain no chain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pomona.analysis.neighbours import leaders
from pomona.analysis.neighbours.leaders import find_leaders, led_groups
from pomona.analysis.vectors import unit

SEEDS = st.integers(0, 2**32)


def drawn(seed: int, rows: int, dimension: int = 3) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(rows, dimension)).astype(np.float32))


def by_definition(rows: np.ndarray, threshold: float) -> list[int]:
    """One row after the other: the most similar leader before it, or a leader itself."""
    chosen: list[int] = []
    leader = []
    for row in range(len(rows)):
        similarity = rows[chosen] @ rows[row] if chosen else np.array([-np.inf])
        if similarity.max() >= threshold:
            leader.append(chosen[int(similarity.argmax())])
        else:
            chosen.append(row)
            leader.append(row)
    return leader


@given(SEEDS, st.integers(0, 60), st.sampled_from([-1.0, 0.3, 0.8, 0.95]), st.integers(1, 20))
def test_leaders_are_those_of_the_definition_for_any_block_size(
    seed: int, rows: int, threshold: float, block: int
) -> None:
    matrix = drawn(seed, rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaders, "_ROWS", block)
        patch.setattr(leaders, "_LEADERS", 2)
        leader, similarity = find_leaders(matrix, threshold)
    assert leader.tolist() == by_definition(matrix, threshold)
    expected = np.einsum("nd,nd->n", matrix, matrix[leader])
    np.testing.assert_allclose(similarity, expected, atol=1e-6)


@given(SEEDS, st.integers(1, 60))
def test_every_row_of_a_group_is_near_to_its_leader_and_no_two_leaders_are_near(
    seed: int, rows: int
) -> None:
    matrix = drawn(seed, rows)
    chain = np.sort(np.random.default_rng(seed).integers(0, 3, rows)).astype(np.int32)
    groups = list(led_groups(matrix, chain, 0.8))
    for group in groups:
        assert len({chain[row] for row, _ in group}) == 1
        similarity = [similar for _, similar in group]
        assert similarity[0] == 1
        assert similarity[1:] == sorted(similarity[1:], reverse=True)
        assert min(similarity) >= 0.8
    numbers = [row for group in groups for row, _ in group]
    assert len(set(numbers)) == len(numbers)
    alone = sorted(set(range(rows)) - set(numbers))
    first = [*alone, *(group[0][0] for group in groups)]
    similarities = matrix[first] @ matrix[first].T
    same_chain = chain[first][:, None] == chain[first]
    np.fill_diagonal(same_chain, val=False)
    assert not (similarities[same_chain] >= 0.8).any()
