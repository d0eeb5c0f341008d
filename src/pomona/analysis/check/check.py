"""What may be wrong with a collection: one list for each question."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pomona.analysis.check.check_list import CheckList
from pomona.analysis.check.page import write_checks
from pomona.analysis.check.quality import QualityLimits, check_quality
from pomona.analysis.classifier.splitting import TEST, TRAIN, FolderSplit, parse_split
from pomona.analysis.inspection import failed_files
from pomona.analysis.neighbours.duplicates import Duplicates, duplicates_among
from pomona.analysis.neighbours.exact import Neighbours, find_neighbours
from pomona.analysis.neighbours.mislabels import find_mislabels
from pomona.analysis.neighbours.sample import Sample, draw_sample
from pomona.analysis.similarity import THRESHOLD, centred_directions, check_similarity
from pomona.analysis.vectors import open_vectors
from pomona.errors import TableError
from pomona.notebook import html_card
from pomona.progress import Progress, no_progress
from pomona.table.feature_table import FeatureTable

if TYPE_CHECKING:
    from pomona.table.failed_files import FailedFile

__all__ = ["Checks", "check"]

_COMPARED = 50_000  # images whose neighbours are compared; of larger tables, a sample
_NEIGHBOURS = 10
_OUTLIERS = 0.01  # the share of images that the list of outliers has

_BROKEN = pa.schema([("path", pa.string()), ("status", pa.string()), ("error", pa.string())])
_DUPLICATES = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.string()),
        ("group", pa.int32()),
        ("kind", pa.string()),
        ("keep", pa.bool_()),
        ("similarity", pa.float32()),
    ]
)
_LEAKS = _DUPLICATES.append(pa.field("part", pa.string()))
_MISLABELS = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.string()),
        ("nearer_to", pa.string()),
        ("own_similarity", pa.float32()),
        ("other_similarity", pa.float32()),
    ]
)
_OUTLYING = pa.schema([("path", pa.string()), ("label", pa.string()), ("similarity", pa.float32())])
_OVERLAPS = pa.schema(
    [
        ("label", pa.string()),
        ("other", pa.string()),
        ("confused", pa.int64()),
        ("images", pa.int64()),
        ("share", pa.float32()),
    ]
)


@dataclass(frozen=True, slots=True)
class Checks:
    """The result of `check`.

    Attributes:
        table: the name of the table.
        rows: number of rows.
        compared: number of images whose neighbours were compared.
        lists: one for each question, by name.
    """

    table: str
    rows: int
    compared: int
    lists: dict[str, CheckList]

    def __getitem__(self, name: str) -> CheckList:
        return self.lists[name]

    def __iter__(self) -> Iterator[CheckList]:
        return iter(self.lists.values())

    def write(self, folder: str | os.PathLike[str], progress: Progress = no_progress) -> Path:
        """Write the page `check.html`, and a CSV file for each list, into a folder.

        Args:
            folder: a new or existing folder; files of the same names are replaced.
            progress: called with the progress.

        Returns:
            The path of the page.

        Raises:
            UsageError: a file cannot be written, or Jinja2 is not installed.
        """
        return write_checks(self, folder, progress)

    def to_json(self) -> dict[str, Any]:
        """Return the object that `pomona check --json` prints."""
        lists = {each.name: each.to_json() for each in self}
        return {"table": self.table, "rows": self.rows, "compared": self.compared, **lists}

    def _repr_html_(self) -> str:
        return html_card(self.table, *(each._repr_html_() for each in self))


def check(
    table: FeatureTable | str | os.PathLike[str],
    *,
    split: str | None = None,
    threshold: float = THRESHOLD,
    limits: QualityLimits | None = None,
    progress: Progress = no_progress,
) -> Checks:
    """Find what may be wrong with a collection of images, from its feature table.

        found = pomona.check("features/", split="Training/Testing")
        found["near_duplicates"].to_pandas()
        found.write("checked/")  # a page with pictures, and CSV files

    The lists, each with the clearest rows first:

    - `broken`: files without a vector, with the reason.
    - `exact_duplicates` and `near_duplicates`: groups, each with the image to keep first.
    - `leaks`: groups with images in both parts of `split`; only with `split`.
    - `mislabels`: images whose five nearest images of another class are nearer than those of their
      own.
    - `outliers`: the 1 % of the images with the lowest mean similarity to their 10 nearest (the
      weight of Angiulli and Pizzuti, "Fast outlier detection in high dimensional spaces", PKDD
      2002, divided by 10).
    - `overlaps`: pairs of classes, by the share of their images whose nearest labelled image is of
      the other class.
    - `dark`, `bright`, `blurred`, `odd_aspect`, `tiny`: see `check_quality`.

    Of a table with more than 50,000 vectors, the neighbours of 50,000 are compared, evenly spread;
    duplicates are those of the whole table.

    Args:
        table: a feature table, its path or URI.
        split: names of the folders of the training and of the test images, separated by a slash;
            shell patterns are allowed.
        threshold: two images are near duplicates if their similarity is this or more.
        limits: where dark, bright, blurred, long and tiny images begin.
        progress: called with the progress.

    Raises:
        TableError: it is not a feature table, or has no vectors.
        UsageError: the threshold is not a similarity, or the split is not two names.
    """
    name, table = str(table), FeatureTable.of(table)
    parts = None if split is None else parse_split(split)
    vectors = open_vectors(table)
    if not vectors.rows:
        raise TableError(f"{name} has no row with a vector: see 'pomona inspect'")
    check_similarity(threshold)
    directions = centred_directions(vectors, progress)
    twins = duplicates_among(directions, threshold, progress)
    sample = draw_sample(directions, _COMPARED, progress)
    neighbours = find_neighbours(sample.directions, _NEIGHBOURS, progress)
    found = [
        _broken(failed_files(table)),
        CheckList(
            "exact_duplicates",
            "Which files have the same bytes?",
            _as_table(_members(twins, "exact"), _DUPLICATES),
        ),
        CheckList(
            "near_duplicates",
            "Which images are nearly the same?",
            _as_table(_members(twins, "near"), _DUPLICATES),
        ),
        *([] if parts is None else [_leaks(twins, parts)]),
        _mislabels(sample, progress),
        _outliers(sample, neighbours),
        _overlaps(sample.labels, neighbours),
        *check_quality(table, limits),
    ]
    return Checks(name, vectors.all_rows, len(sample.paths), {each.name: each for each in found})


def _as_table(rows: Iterable[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema)


def _broken(failed: Iterable[FailedFile]) -> CheckList:
    rows = ({"path": each.path, "status": each.status, "error": each.error} for each in failed)
    return CheckList("broken", "Which files have no vector, and why?", _as_table(rows, _BROKEN))


def _members(twins: Duplicates, kind: str) -> Iterator[dict[str, Any]]:
    groups = twins.exact if kind == "exact" else twins.near
    for number, group in enumerate(groups, start=1):
        for member in group.members:
            yield {
                "path": member.path,
                "label": member.label,
                "group": number,
                "kind": kind,
                "keep": member is group.members[0],
                "similarity": member.similarity,
            }


def _leaks(twins: Duplicates, split: FolderSplit) -> CheckList:
    """Return the members of groups that have images in both parts."""
    names = {TRAIN: "train", TEST: "test"}
    rows: list[dict[str, Any]] = []
    for kind in ("exact", "near"):
        groups: dict[int, list[dict[str, Any]]] = {}
        for row in _members(twins, kind):
            groups.setdefault(row["group"], []).append(
                row | {"part": names.get(split.part(row["path"]))}
            )
        for group in groups.values():
            if {"train", "test"} <= {row["part"] for row in group}:
                rows += group
    question = "Which training images are also test images, or nearly so?"
    return CheckList("leaks", question, _as_table(rows, _LEAKS))


def _mislabels(sample: Sample, progress: Progress) -> CheckList:
    rows = (
        {
            "path": sample.paths[each.row],
            "label": sample.labels[each.row],
            "nearer_to": each.other,
            "own_similarity": each.own_similarity,
            "other_similarity": each.other_similarity,
        }
        for each in find_mislabels(sample.directions, sample.labels, progress)
    )
    question = "Which images are nearer to another class than to their own?"
    return CheckList("mislabels", question, _as_table(rows, _MISLABELS))


def _outliers(sample: Sample, neighbours: Neighbours) -> CheckList:
    count = len(sample.paths)
    if not neighbours.similarity.shape[1]:
        return CheckList("outliers", _ODD, _OUTLYING.empty_table())
    mean = neighbours.similarity.mean(axis=1)
    lowest = np.argsort(mean, kind="stable")[: max(1, round(_OUTLIERS * count))]
    rows = (
        {"path": sample.paths[row], "label": sample.labels[row], "similarity": float(mean[row])}
        for row in lowest
    )
    return CheckList("outliers", _ODD, _as_table(rows, _OUTLYING))


_ODD = "Which images are unlike all others?"


def _overlaps(labels: Sequence[str | None], neighbours: Neighbours) -> CheckList:
    """Count for each pair of classes how often one's nearest labelled image is of the other."""
    images: Counter[str] = Counter()
    confused: Counter[tuple[str, str]] = Counter()
    for label, rows in zip(labels, neighbours.rows.tolist(), strict=True):
        nearest = next((labels[row] for row in rows if labels[row] is not None), None)
        if label is not None and nearest is not None:
            images[label] += 1
            if nearest != label:
                confused[min(label, nearest), max(label, nearest)] += 1
    rows = [
        {
            "label": one,
            "other": other,
            "confused": count,
            "images": images[one] + images[other],
            "share": count / (images[one] + images[other]),
        }
        for (one, other), count in confused.items()
    ]
    rows.sort(key=lambda row: (-row["share"], row["label"], row["other"]))
    return CheckList("overlaps", "Which classes look alike?", _as_table(rows, _OVERLAPS))
