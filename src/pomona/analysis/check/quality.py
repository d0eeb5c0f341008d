"""Dark, bright, blurred, very long and tiny images of a feature table."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pomona.analysis.check.check_list import CheckList
from pomona.table.feature_table import FeatureTable

__all__ = ["QualityCheck", "QualityLimits", "check_quality"]


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """Where an image begins to be a problem. An image exactly at a limit is none.

    The limits of brightness and sharpness were chosen on 95 photos and measured on 175 others
    (`docs/decisions/59-brightness-and-sharpness.md`). `aspect` and `tiny` are conventions.

    Attributes:
        dark: an image with less `brightness` is dark.
        bright: an image with more `brightness` is bright.
        blurred: an image with less `sharpness` is blurred.
        aspect: an image is odd if its longer side is more than this times the shorter one.
        tiny: an image whose shorter side has fewer pixels is tiny.
    """

    dark: float = 0.1
    bright: float = 0.95
    blurred: float = 0.35
    aspect: float = 4.0
    tiny: int = 32


@dataclass(frozen=True, slots=True)
class QualityCheck:
    """The result of `check_quality`: lists with the columns `path`, `label` and `value`.

    Attributes:
        dark: images by brightness, the darkest first.
        bright: images by brightness, the brightest first.
        blurred: images by sharpness. A picture without edges has none, and is not in this list.
        odd_aspect: images by the ratio of their sides.
        tiny: images by their shorter side in pixels.
        unmeasured: number of images without brightness, whose rows an earlier version made.
    """

    dark: CheckList
    bright: CheckList
    blurred: CheckList
    odd_aspect: CheckList
    tiny: CheckList
    unmeasured: int

    def __iter__(self) -> Iterator[CheckList]:
        yield from (self.dark, self.bright, self.blurred, self.odd_aspect, self.tiny)

    def to_json(self) -> dict[str, Any]:
        """Return an object that `json.dumps` accepts."""
        return {**{each.name: each.to_json() for each in self}, "unmeasured": self.unmeasured}


def check_quality(
    table: FeatureTable | str | os.PathLike[str], limits: QualityLimits | None = None
) -> QualityCheck:
    """List the dark, bright, blurred, very long and tiny images of a table.

        found = pomona.check_quality("features/")
        found.blurred.to_pandas()

    The table is read once, without vectors. Memory grows with the number of images found.

    Args:
        table: a feature table, its path or URI.
        limits: where an image begins to be a problem; by default `QualityLimits()`.

    Raises:
        TableError: it is not a feature table, or mixes two encoders.
    """
    table, limits = FeatureTable.of(table), limits or QualityLimits()
    table.provenance()
    dark, bright = _Finder(limits.dark), _Finder(limits.bright, above=True)
    blurred, tiny = _Finder(limits.blurred), _Finder(limits.tiny)
    odd = _Finder(limits.aspect, above=True)
    unmeasured = 0
    columns = ["path", "label", "status", "width", "height", "brightness", "sharpness"]
    for batch in table.batches(columns):
        rows = batch.filter(pc.equal(batch["status"], "ok"))
        unmeasured += rows["brightness"].null_count
        shorter = pc.min_element_wise(rows["width"], rows["height"]).cast("double")
        longer = pc.max_element_wise(rows["width"], rows["height"]).cast("double")
        dark.look(rows, rows["brightness"])
        bright.look(rows, rows["brightness"])
        blurred.look(rows, rows["sharpness"])
        odd.look(rows, pc.divide(longer, shorter))
        tiny.look(rows, shorter)
    return QualityCheck(
        dark.found("dark", f"Which images have a brightness below {limits.dark:g}?"),
        bright.found("bright", f"Which images have a brightness above {limits.bright:g}?"),
        blurred.found("blurred", f"Which images have a sharpness below {limits.blurred:g}?"),
        odd.found("odd_aspect", f"Which images are over {limits.aspect:g} times as long as wide?"),
        tiny.found("tiny", f"Which images have a side of fewer than {limits.tiny} pixels?"),
        unmeasured,
    )


class _Finder:
    """Collects the images on one side of a limit."""

    def __init__(self, limit: float, *, above: bool = False) -> None:
        self._limit = limit
        self._is_beyond = pc.greater if above else pc.less
        self._order = "descending" if above else "ascending"
        schema = pa.schema({"path": pa.string(), "label": pa.string(), "value": pa.float64()})
        self._tables = [schema.empty_table()]

    def look(self, rows: pa.RecordBatch, values: pa.Array) -> None:
        columns = [rows["path"], rows["label"], values.cast("double")]
        some = pa.table(columns, self._tables[0].schema.names)
        self._tables.append(some.filter(self._is_beyond(values, self._limit)))

    def found(self, name: str, question: str) -> CheckList:
        images = pa.concat_tables(self._tables)
        order = [("value", self._order), ("path", "ascending")]
        return CheckList(name, question, images.sort_by(order))
