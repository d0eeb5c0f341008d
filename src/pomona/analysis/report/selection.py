"""The rows that the report's page shows with pictures, in addition to the map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from pomona.analysis.neighbours.duplicates import Member
    from pomona.analysis.neighbours.mislabels import Mislabel
    from pomona.analysis.report.findings import Findings

__all__ = ["Selection", "ShownGroup", "select"]

T = TypeVar("T")

_CLASSES, _SAMPLES, _SUSPECTS, _GROUPS, _OF_GROUP, _EXAMPLES = 100, 6, 24, 8, 8, 8


@dataclass(frozen=True, slots=True)
class ShownGroup(Generic[T]):
    """A group of duplicates.

    Attributes:
        size: number of images.
        labels: of the images.
        shown: some of the images.
    """

    size: int
    labels: set[str | None]
    shown: Sequence[T]


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows and groups that the page shows, the most important of each kind.

    Attributes:
        labels: of the table of classes, in its order.
        samples: numbers of rows by label.
        suspects: the clearest.
        exact: groups of the same bytes.
        near: groups of near duplicates, as numbers of rows spread over each group.
        examples: numbers of rows, each with its neighbours and their similarities.
    """

    labels: list[str | None]
    samples: dict[str | None, list[int]]
    suspects: list[Mislabel]
    exact: list[ShownGroup[Member]]
    near: list[ShownGroup[int]]
    examples: list[tuple[int, list[tuple[int, float]]]]

    def paths(self, found: Findings) -> Iterator[str]:
        """Yield all paths that need a picture, the most important first."""
        rows = [suspect.row for suspect in self.suspects]
        rows += [row for suspect in rows for row in found.neighbours.rows[suspect][:4]]
        rows += [row for sample in self.samples.values() for row in sample]
        rows += [row for group in self.near for row in group.shown]
        for example, matches in self.examples:
            rows += [example, *(row for row, _ in matches)]
        yield from (found.sample.paths[row] for row in rows)
        yield from (member.path for group in self.exact for member in group.shown)
        yield from (failure.path for failure in found.failures)


def select(found: Findings) -> Selection:
    """Select what the page shows; the same findings give the same selection."""
    sample = found.sample
    by_label: dict[str | None, list[int]] = {}
    for row, label in enumerate(sample.labels):
        by_label.setdefault(label, []).append(row)
    largest = sorted(by_label, key=lambda label: -len(by_label[label]))[:_CLASSES]
    samples = {label: _spread(by_label[label], _SAMPLES) for label in largest}
    examples = [samples[label][0] for label in largest[:_EXAMPLES]]
    if len(largest) < _EXAMPLES:
        # If there are few classes, several rows of each, from the middle on.
        more = [row for label in largest for row in _spread(by_label[label], 5)[2:4]]
        examples = list(dict.fromkeys([*examples, *more]))[:_EXAMPLES]
    labels = [label for label, _ in found.labels.most_common(_CLASSES)]
    return Selection(
        labels=sorted(labels, key=lambda label: (label is None, label or "")),
        samples=samples,
        suspects=found.suspects[:_SUSPECTS],
        exact=[
            ShownGroup(len(group.members), group.labels, group.members[:_OF_GROUP])
            for group in found.exact[:_GROUPS]
        ],
        near=[
            ShownGroup(len(rows), {sample.labels[row] for row in rows}, _spread(rows, _OF_GROUP))
            for rows in found.near[:_GROUPS]
        ],
        examples=[(row, found.neighbours.of(row)[:_SAMPLES]) for row in examples],
    )


def _spread(rows: Sequence[int], most: int) -> list[int]:
    """Return at most `most` of the rows, evenly spread."""
    return [rows[int(at)] for at in np.linspace(0, len(rows) - 1, min(most, len(rows)))]
