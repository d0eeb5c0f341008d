"""The content of a report: counts, map, classes, suspected labels, duplicates, failures."""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pomona.analysis.neighbours.duplicates import Group, same_bytes
from pomona.analysis.neighbours.exact import Neighbours, find_neighbours
from pomona.analysis.neighbours.leaders import PREFERENCE, by_preference, led_groups
from pomona.analysis.neighbours.mislabels import Mislabel, find_mislabels
from pomona.analysis.neighbours.sample import Sample, draw_sample
from pomona.analysis.report.label_quality import (
    ClassSeparation,
    chains,
    score_classes,
)
from pomona.analysis.report.map_layout import place_rows
from pomona.analysis.similarity import THRESHOLD, centred_directions, check_similarity
from pomona.analysis.vectors import evenly_spread, open_vectors
from pomona.errors import TableError
from pomona.progress import Progress, Snapshot, no_progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.analysis.vectors import Vectors
    from pomona.table.feature_table import FeatureTable

__all__ = ["Failure", "Findings", "ReportOptions", "collect"]

_NEIGHBOURS = 10
_FAILURES = 60  # listed one by one; all are counted


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What a report shows.

    Attributes:
        points: largest number of images on the map, each with its picture in the page.
        compared: largest number of images whose neighbours are searched. A larger table is sampled.
        threshold: two images are near duplicates if their similarity is this or more.
        map: `tsne` or `pca`.
    """

    points: int = 5_000
    compared: int = 50_000
    threshold: float = THRESHOLD
    map: str = "tsne"


@dataclass(frozen=True, slots=True)
class Failure:
    """A row without a vector."""

    path: str
    status: str
    error: str


@dataclass(frozen=True, slots=True)
class Findings:
    """The content of a report.

    Attributes:
        name: of the table.
        provenance: of the table.
        statuses: number of rows by status.
        labels: number of rows by label, of any status.
        failed_labels: number of rows without a vector by label.
        failures: some of the rows without a vector.
        written: times of the oldest and of the newest part file.
        sample: the rows that were compared.
        neighbours: of the rows of the sample, as numbers of rows of the sample.
        scores: classes, the least separable first.
        suspects: rows of the sample that may have a wrong label, the clearest first.
        near: groups of near duplicates in the sample, as numbers of rows, the largest first.
        exact: groups of files with the same bytes in the whole table.
        mapped: (M,) numbers of the rows of the sample on the map.
        places: (M, 2) float32 between 0 and 1, their places on the map.
        options: what the report shows.
        seconds: duration of each step.
    """

    name: str
    provenance: dict[str, str]
    statuses: Counter[str]
    labels: Counter[str | None]
    failed_labels: Counter[str | None]
    failures: list[Failure]
    written: tuple[dt.datetime, dt.datetime]
    sample: Sample
    neighbours: Neighbours
    scores: list[ClassSeparation]
    suspects: list[Mislabel]
    near: list[list[int]]
    exact: list[Group]
    mapped: NDArray[np.intp]
    places: NDArray[np.float32]
    options: ReportOptions
    seconds: dict[str, float]

    @property
    def rows(self) -> int:
        """The number of rows of the table, with and without a vector."""
        return self.statuses.total()

    @property
    def accuracy(self) -> float | None:
        """The share of labelled rows whose nearest row has their label; None without labels."""
        rows = sum(score.rows for score in self.scores)
        return sum(score.right for score in self.scores) / rows if rows else None


def collect(
    name: str, table: FeatureTable, options: ReportOptions, progress: Progress = no_progress
) -> Findings:
    """Read a table and collect the content of its report.

    Raises:
        TableError: it is not a feature table, or has no vectors.
        UsageError: the threshold is not a similarity.
    """
    check_similarity(options.threshold)
    vectors = open_vectors(table)
    if not vectors.rows:
        raise TableError(f"{name} has no row with a vector: see 'pomona inspect'")
    seconds: dict[str, float] = {}
    clock = _Clock(seconds)
    statuses, labels, failed_labels, failures = _read_rows(table)
    exact, _ = same_bytes(table)
    sample = draw_sample(centred_directions(vectors, progress), options.compared, progress)
    clock.lap("reading the table")
    neighbours = find_neighbours(sample.directions, _NEIGHBOURS, progress)
    scores = score_classes(sample.labels, neighbours)
    doubtful = find_mislabels(sample.directions, sample.labels, progress)
    near = _near_groups(vectors, sample, neighbours, options.threshold)
    clock.lap("comparing the images")
    progress(Snapshot("placing", 0, 1))
    mapped = evenly_spread(len(sample.paths), options.points)
    places = place_rows(sample.directions[mapped], options.map)
    clock.lap("drawing the map")
    times = sorted(part.modified for part in table.stored_parts())
    written = (
        dt.datetime.fromtimestamp(times[0], dt.UTC),
        dt.datetime.fromtimestamp(times[-1], dt.UTC),
    )
    return Findings(
        name=name,
        provenance=vectors.provenance,
        statuses=statuses,
        labels=labels,
        failed_labels=failed_labels,
        failures=failures,
        written=written,
        sample=sample,
        neighbours=neighbours,
        scores=scores,
        suspects=doubtful,
        near=near,
        exact=exact,
        mapped=mapped,
        places=places,
        options=options,
        seconds=seconds,
    )


class _Clock:
    """Records the duration of each step."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds = seconds
        self._last = time.monotonic()

    def lap(self, what: str) -> None:
        now = time.monotonic()
        self._seconds[what] = now - self._last
        self._last = now


def _read_rows(
    table: FeatureTable,
) -> tuple[Counter[str], Counter[str | None], Counter[str | None], list[Failure]]:
    statuses: Counter[str] = Counter()
    labels: Counter[str | None] = Counter()
    failed: Counter[str | None] = Counter()
    failures: list[Failure] = []
    for batch in table.batches(["path", "label", "status", "error"]):
        statuses.update(batch["status"].to_pylist())
        labels.update(batch["label"].to_pylist())
        for row in batch.to_pylist():
            if row["status"] != "ok":
                failed[row["label"]] += 1
                if len(failures) < _FAILURES:
                    failures.append(Failure(row["path"], row["status"], row["error"] or ""))
    return statuses, labels, failed, failures


def _near_groups(
    vectors: Vectors, sample: Sample, neighbours: Neighbours, threshold: float
) -> list[list[int]]:
    """Return groups of near duplicates as rows of the sample, the one to keep first."""
    chain = chains(neighbours, threshold)
    chained = np.flatnonzero(np.bincount(chain)[chain] > 1)
    if not len(chained):
        return []
    names = vectors.columns_at(sample.numbers[chained], PREFERENCE)
    order = chained[by_preference(names, chain[chained])]
    groups = led_groups(sample.directions[order], chain[order], threshold)
    found = [[int(order[at]) for at, _ in group] for group in groups]
    return sorted(found, key=lambda group: (-len(group), group[0]))
