"""The report's page: one HTML file with its styles, script, data and pictures.

The page makes no network requests: its content security policy forbids them, and allows only its
own script and styles, by their digests. Jinja2 fills in the templates and escapes all text.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import os
import re
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pomona.analysis.report.findings import Findings, ReportOptions, collect
from pomona.analysis.report.map_layout import check_map, is_by_pca
from pomona.analysis.report.pictures import Pictures, read_pictures
from pomona.analysis.report.selection import select
from pomona.errors import UsageError
from pomona.extras import check_extra
from pomona.io.location import written_whole
from pomona.messages import count_of, noun_for
from pomona.progress import Progress, no_progress
from pomona.table.feature_table import FeatureTable, check_output

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["as_html", "environment", "render", "style_of", "write_report"]

_PICTURE_BYTES = 20_000_000  # of 30 MB that a page may have
_DEFAULTS = ReportOptions()
_SHOWN_TWICE = 3_000_000  # reserved for pictures that are on the map and in a section
_INVALID = re.compile("[\x00-\x08\x0b-\x1f\ud800-\udfff]")  # what HTML cannot contain


def write_report(
    table: FeatureTable | str | os.PathLike[str],
    file: str | os.PathLike[str],
    options: ReportOptions = _DEFAULTS,
    progress: Progress = no_progress,
) -> tuple[Findings, Pictures]:
    """Write a page that shows what is in a feature table.

        pomona.write_report("features/", "report.html")

    The page is written atomically.

    Args:
        table: a feature table, its path or URI, which is the title of the page.
        file: where to write the page.
        options: what the page shows.
        progress: called with the progress.

    Returns:
        The content of the page, and its pictures.

    Raises:
        TableError: it is not a feature table, or has no vectors.
        UsageError: the page cannot be written, an option is not valid, or Jinja2 or scikit-learn is
            not installed.
    """
    name, table, file = str(table), FeatureTable.of(table), Path(file)
    check_output(file)
    check_extra("analysis", "a report needs Jinja2", "jinja2")
    check_map(options.map)
    found = collect(name, table, options, progress)
    started = time.monotonic()
    mapped = [found.sample.paths[row] for row in found.mapped]
    pictures = read_pictures(
        [*select(found).paths(found), *mapped], _PICTURE_BYTES - _SHOWN_TWICE, progress
    )
    found.seconds["reading pictures"] = time.monotonic() - started
    text = render(found, pictures, dt.datetime.now(dt.UTC))
    with written_whole(file, UsageError) as draft:
        draft.write_text(text, encoding="utf-8")
    return found, pictures


def render(found: Findings, pictures: Pictures, now: dt.datetime) -> str:
    """Return the page as text."""
    pages = environment()
    mapped = {found.sample.paths[row] for row in found.mapped}
    page = pages.get_template("page.html").render(
        found=found,
        shown=select(found),
        pictures=pictures,
        now=now,
        style=style_of(pages),
        script=_source(pages, "page.js"),
        tiles=_tiles(found),
        by_pca=is_by_pca(found.options.map, len(found.mapped)),
        network=_network(found.provenance),
        scores={score.label: score for score in found.scores},
        missing=len(pictures.missing & mapped),
        left_out=len(pictures.left_out & mapped),
        data=_data(found, pictures),
    )
    return as_html(page)


def as_html(page: str) -> str:
    """Return a page without the characters that HTML cannot contain."""
    return _INVALID.sub("\ufffd", page)


def environment() -> Environment:
    """Return the templates of pages, which escape all text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("pomona.analysis.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.globals["count_of"] = count_of
    pages.filters |= {
        "digest": _digest,
        "file_name": lambda path: path.rpartition("/")[2],
        "label_text": _label_text,
        "number": "{:,}".format,
        "percent": "{:.1%}".format,
    }
    pages.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return pages


def style_of(pages: Environment) -> str:
    """Return the styles of all pages."""
    return _source(pages, "page.css")


def _source(pages: Environment, name: str) -> str:
    assert pages.loader  # noqa: S101 - for mypy
    return pages.loader.get_source(pages, name)[0]


def _digest(content: str) -> str:
    """Return the digest that allows a script or a style in a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _label_text(label: str | None) -> str:
    return "(no label)" if label is None else label


def _network(provenance: dict[str, str]) -> str:
    text = f"{provenance.get('model', '?')}, weights {provenance.get('weights', '?')}"
    return f"{text}, {provenance['projection']}" if "projection" in provenance else text


def _tiles(found: Findings) -> list[tuple[str, str, str]]:
    """Return number, text and link target of the boxes at the top."""
    classes = len([label for label in found.labels if label is not None])
    suspects, groups = len(found.suspects), len(found.near) + len(found.exact)
    return [
        (f"{found.rows:,}", noun_for(found.rows, "image"), "map"),
        (f"{found.rows - found.statuses['ok']:,}", "failed", "failures"),
        (f"{classes:,}", noun_for(classes, "class", "classes"), "classes"),
        (
            "-" if found.accuracy is None else f"{found.accuracy:.1%}",
            "nearest has the same label",
            "classes",
        ),
        (f"{suspects:,}", noun_for(suspects, "suspected mislabel"), "suspects"),
        (
            f"{groups:,}",
            noun_for(groups, "group of duplicates", "groups of duplicates"),
            "duplicates",
        ),
    ]


def _data(found: Findings, pictures: Pictures) -> dict[str, Any]:
    """Return the data for the map's script."""
    paths = [found.sample.paths[row] for row in found.mapped]
    shared = paths[0].rpartition("/")[0]
    while shared and not all(path.startswith(f"{shared}/") for path in paths):
        shared = shared.rpartition("/")[0]
    start = f"{shared}/" if shared else ""
    labels = [_label_text(found.sample.labels[row]) for row in found.mapped]
    # The largest classes first: they get the colours that are easiest to tell apart.
    counts = Counter(labels)
    names = sorted(counts, key=lambda label: (-counts[label], label))
    number = {label: at for at, label in enumerate(names)}
    return {
        "x": [round(float(x), 4) for x in found.places[:, 0]],
        "y": [round(1 - float(y), 4) for y in found.places[:, 1]],
        "label": [number[label] for label in labels],
        "labels": names,
        "start": start,
        "path": [path.removeprefix(start) for path in paths],
        "picture": [pictures.found.get(path, "") for path in paths],
    }
