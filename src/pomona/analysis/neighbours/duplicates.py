"""Duplicates: files with the same bytes, and images that look nearly the same."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pomona.analysis.neighbours.exact import HELD_BYTES, compare_pairs
from pomona.analysis.neighbours.leaders import PREFERENCE, by_preference, led_groups
from pomona.analysis.similarity import THRESHOLD, Directions, centred_directions, check_similarity
from pomona.analysis.vectors import evenly_spread, open_vectors
from pomona.progress import Progress, no_progress
from pomona.table.feature_table import FeatureTable

if TYPE_CHECKING:
    from numpy.typing import NDArray


__all__ = ["Duplicates", "Group", "Member", "duplicates_among", "find_duplicates", "same_bytes"]

_RANDOM_ROWS = 1500  # about a million pairs, which show how near images are by chance


@dataclass(frozen=True, slots=True)
class Member:
    """One image of a group. `similarity` is that to the first image of the group."""

    path: str
    label: str | None
    similarity: float


@dataclass(frozen=True, slots=True)
class Group:
    """Images that are duplicates of each other.

    Attributes:
        kind: `exact` or `near`.
        members: two or more images. The first is the one to keep: the largest in pixels, of these
            the one with the most bytes, which is the least compressed. The others follow, the
            most similar to it first. Files with the same bytes are in the order of their paths.
    """

    kind: str
    members: tuple[Member, ...]

    @property
    def labels(self) -> set[str | None]:
        """The labels of the members. Several labels can mean that one is wrong."""
        return {member.label for member in self.members}

    @property
    def lowest(self) -> float:
        """The lowest similarity of a member and the first member."""
        return min(member.similarity for member in self.members)

    def to_json(self) -> dict[str, Any]:
        """Return the object that `pomona duplicates --json` prints for each group."""
        return {
            "kind": self.kind,
            "labels_differ": len(self.labels) > 1,
            "lowest_similarity": round(self.lowest, 6),
            "keep": self.members[0].path,
            "members": [
                {"path": m.path, "label": m.label, "similarity": round(m.similarity, 6)}
                for m in self.members
            ],
        }


@dataclass(frozen=True, slots=True)
class Duplicates:
    """The result of `find_duplicates`.

    Attributes:
        rows: number of rows of the table.
        threshold: a pair is near if its similarity is this or more; None if vectors were not
            compared.
        exact: groups of files with the same bytes, the largest first.
        near: groups of images that are near to the first of the group, the largest first. A group
            whose files all have the same bytes is only in `exact`.
        nearest: (N,) float32, for each row with a vector its similarity to the nearest other row.
        random: (M,) float32, similarities of pairs of rows, evenly spread over the table.
    """

    rows: int
    threshold: float | None
    exact: list[Group]
    near: list[Group]
    nearest: NDArray[np.float32] = field(repr=False)
    random: NDArray[np.float32] = field(repr=False)

    @property
    def by_chance(self) -> float:
        """The share of random pairs that are near."""
        return self._near(self.random)

    @property
    def share(self) -> float:
        """The share of rows with a vector that have a near duplicate."""
        return self._near(self.nearest)

    def _near(self, similarities: NDArray[np.float32]) -> float:
        if self.threshold is None or not len(similarities):
            return 0.0
        return float((similarities >= self.threshold).mean())

    def to_json(self) -> dict[str, Any]:
        """Return the object that `pomona duplicates --json` prints."""
        return {
            "rows": self.rows,
            "threshold": self.threshold,
            "share_with_near_duplicate": round(self.share, 6),
            "share_of_random_pairs_as_near": round(self.by_chance, 9),
            "nearest_similarity": _quantiles(self.nearest),
            "random_similarity": _quantiles(self.random),
            "exact": [group.to_json() for group in self.exact],
            "near": [group.to_json() for group in self.near],
        }


def find_duplicates(
    table: FeatureTable | str | os.PathLike[str],
    threshold: float | None = THRESHOLD,
    progress: Progress = no_progress,
) -> Duplicates:
    """Find images that a table contains more than once, or nearly so.

        for group in pomona.find_duplicates("features/").near:
            print("keep", group.members[0].path, "of", len(group.members))

    Args:
        table: a feature table, its path or URI.
        threshold: two images are near if their similarity is this or more (see
            `pomona.analysis.similarity`); None to compare only bytes.
        progress: called with the progress.

    Raises:
        TableError: it is not a feature table.
        UsageError: the threshold is not a similarity.
    """
    table = FeatureTable.of(table)
    if threshold is not None:
        check_similarity(threshold)
    vectors = open_vectors(table)
    if threshold is None or vectors.rows < 2:
        exact, _ = same_bytes(table)
        nothing = np.empty(0, np.float32)
        return Duplicates(vectors.all_rows, threshold, exact, [], nothing, nothing)
    return duplicates_among(centred_directions(vectors, progress), threshold, progress)


def duplicates_among(
    directions: Directions, threshold: float, progress: Progress = no_progress
) -> Duplicates:
    """Find duplicates by directions whose centre is known.

    Args:
        directions: of one row or more.
        threshold: two images are near if their similarity is this or more.
        progress: called with the progress.
    """
    vectors = directions.vectors
    exact, digests = same_bytes(vectors.table)
    sample = directions.matrix(evenly_spread(vectors.rows, _RANDOM_ROWS))
    random = (sample @ sample.T)[np.triu_indices(len(sample), 1)]
    pairs = compare_pairs(directions, threshold, progress)
    near = [
        Group("near", members)
        for members in _led(directions, pairs.component, threshold)
        if len({digests.get(member.path, member.path) for member in members}) > 1
    ]
    return Duplicates(
        vectors.all_rows, threshold, exact, _largest_first(near), pairs.nearest, random
    )


def same_bytes(table: FeatureTable) -> tuple[list[Group], dict[str, str]]:
    """Return groups of files with the same digest, and the digests of their members by path.

    Empty files are omitted: they are all equal, and are not images.
    """
    columns = ["path", "label", "status", "content_sha256"]
    rows = pa.Table.from_batches(table.batches(columns))
    rows = rows.filter((pc.field("status") != "empty") & pc.field("content_sha256").is_valid())
    counts = rows["content_sha256"].value_counts()
    shared = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    doubled = rows.filter(pc.is_in(rows["content_sha256"], shared)).sort_by("path")
    by_digest: dict[str, list[Member]] = {}
    for row in doubled.select(["path", "label", "content_sha256"]).to_pylist():
        member = Member(row["path"], row["label"], 1.0)
        by_digest.setdefault(row["content_sha256"], []).append(member)
    groups = [Group("exact", tuple(members)) for members in by_digest.values()]
    digests = {m.path: digest for digest, members in by_digest.items() for m in members}
    return _largest_first(groups), digests


def _led(
    directions: Directions, component: NDArray[np.int32], threshold: float
) -> Iterator[tuple[Member, ...]]:
    """Yield the groups among rows that chains of near pairs connect; this reads the table twice."""
    numbers = np.flatnonzero(np.bincount(component)[component] > 1)
    if not len(numbers):
        return
    rows = directions.vectors.columns_at(numbers, [*PREFERENCE, "label"])
    order = by_preference(rows, component[numbers])
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    matrix = _matrix(len(order), directions.dimension)
    filled = 0
    for block in directions.rows_at(numbers):
        matrix[place[filled : filled + len(block)]] = block.vectors
        filled += len(block)
    paths, labels = rows["path"].take(order), rows["label"].take(order)
    for group in led_groups(matrix, component[numbers][order], threshold):
        yield tuple(
            Member(paths[at].as_py(), labels[at].as_py(), similarity) for at, similarity in group
        )


def _matrix(rows: int, dimension: int) -> NDArray[np.float32]:
    """Return an empty matrix, in a temporary file if it is larger than a gigabyte."""
    shape = (rows, dimension)
    if 4 * rows * dimension <= HELD_BYTES:
        return np.empty(shape, np.float32)
    with tempfile.TemporaryFile() as file:  # the mapping outlives it
        return np.memmap(file, np.float32, "w+", shape=shape)


def _largest_first(groups: list[Group]) -> list[Group]:
    return sorted(groups, key=lambda group: (-len(group.members), group.members[0].path))


def _quantiles(values: NDArray[np.float32]) -> dict[str, float]:
    if not len(values):
        return {}
    shares = (0.01, 0.25, 0.5, 0.75, 0.99)
    found = np.quantile(values, shares)
    return {f"{share:g}": round(float(at), 6) for share, at in zip(shares, found, strict=True)}
