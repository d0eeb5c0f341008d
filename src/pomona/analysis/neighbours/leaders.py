"""Groups around leaders: every row of a group is near to its leader, so no group is a chain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["PREFERENCE", "by_preference", "find_leaders", "led_groups"]

PREFERENCE = ["path", "width", "height", "size"]
"""The columns that decide which image of a group to keep."""

_ROWS, _LEADERS = 1024, 8192  # to compare at a time: 32 MiB of similarities


def by_preference(rows: pa.Table, chain: NDArray[np.int32]) -> NDArray[np.intp]:
    """Return the order of rows by chain, and within a chain the image to keep first.

    That is the largest one in pixels, of these the one with the most bytes, which is the least
    compressed, and of these the first by path.

    Args:
        rows: N rows with the columns `PREFERENCE`.
        chain: (N,), the number of each row's chain.
    """
    pixels = pc.multiply(rows["width"].cast("int64"), rows["height"].cast("int64"))
    keys = rows.append_column("chain", [chain]).append_column("pixels", pixels)
    order: NDArray[np.uint64] = pc.sort_indices(
        keys,
        [
            ("chain", "ascending"),
            ("pixels", "descending"),
            ("size", "descending"),
            ("path", "ascending"),
        ],
    ).to_numpy()
    return order.astype(np.intp)


def led_groups(
    directions: NDArray[np.float32], chain: NDArray[np.int32], threshold: float
) -> Iterator[list[tuple[int, float]]]:
    """Yield the groups of two or more rows, as numbers of rows and similarities to the leader.

    The leader comes first, and the most similar row follows.

    Args:
        directions: (N, D) float32, of length 1, in the order of `by_preference`.
        chain: (N,), in the same order. Rows of two chains are not near.
        threshold: a row is near to a leader if their similarity is this or more.
    """
    borders = np.flatnonzero(np.diff(chain)) + 1
    for start, stop in zip([0, *borders], [*borders, len(chain)], strict=True):
        leader, similarity = find_leaders(directions[start:stop], threshold)
        groups: dict[int, list[tuple[int, float]]] = {}
        for row in np.argsort(-similarity, kind="stable").tolist():
            groups.setdefault(int(leader[row]), []).append((start + row, float(similarity[row])))
        for first, group in groups.items():
            if len(group) > 1:
                yield sorted(group, key=lambda found: found[0] != start + first)


def find_leaders(
    directions: NDArray[np.float32], threshold: float
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Choose leaders, and give every other row to the leader to which it is most similar.

    A row is a leader if it is near to no leader before it.

    Args:
        directions: (N, D) float32, of length 1, in the order of preference.
        threshold: a row is near to a leader if their inner product is this or more.

    Returns:
        For each row the number of its leader, which for a leader is its own, and the similarity to
        the leader: (N,) and (N,) float32.
    """
    rows = len(directions)
    leader, similarity = np.arange(rows), np.ones(rows, np.float32)
    leaders = np.empty(0, np.intp)
    for start in range(0, rows, _ROWS):
        block = directions[start : start + _ROWS]
        best, nearest = _nearest_leaders(block, directions, leaders)
        among = block @ block.T  # (B, D) @ (D, B) -> (B, B) float32
        new: list[int] = []
        for row, to_others in enumerate(among):
            if new and to_others[new].max() > best[row]:
                best[row] = to_others[new].max()
                nearest[row] = start + new[int(to_others[new].argmax())]
            if best[row] < threshold:
                new.append(row)
            else:
                leader[start + row], similarity[start + row] = nearest[row], best[row]
        leaders = np.append(leaders, start + np.array(new, np.intp))
    return leader, similarity


def _nearest_leaders(
    block: NDArray[np.float32], directions: NDArray[np.float32], leaders: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Return the similarity to the nearest leader, -inf without one, and its number: (B,), (B,)."""
    best, nearest = np.full(len(block), -np.inf, np.float32), np.zeros(len(block), np.intp)
    for left in range(0, len(leaders), _LEADERS):
        tile = leaders[left : left + _LEADERS]
        similarities = block @ directions[tile].T  # (B, D) @ (D, L) -> (B, L) float32
        at = similarities.argmax(axis=1)
        found = np.take_along_axis(similarities, at[:, None], 1)[:, 0]
        nearer = found > best
        best[nearer], nearest[nearer] = found[nearer], tile[at[nearer]]
    return best, nearest
