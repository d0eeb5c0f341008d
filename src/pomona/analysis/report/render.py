"""The report's page: one HTML file with its styles, its script, its data and its pictures in it.

The page asks nothing of any network: its content security policy forbids it, and lets only its own
script and styles count, by their digests. The script is 300 lines without a library; a plotting
library would weigh more than most reports.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import os
import time
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any

from pomona.analysis.progress import Step, no_steps
from pomona.analysis.report.findings import Findings, ReportOptions, look_at
from pomona.analysis.report.map_layout import check_map
from pomona.analysis.report.markup import Markup, data_script, join, tag
from pomona.analysis.report.pictures import Pictures, read_pictures
from pomona.analysis.report.sections import choose, named, sections
from pomona.errors import UsageError
from pomona.io.location import written_whole
from pomona.plural import count_of, noun_for
from pomona.table.feature_table import FeatureTable, check_output

__all__ = ["render", "write_report"]

_PICTURE_BYTES = 20_000_000  # of 30 MB that a page may weigh
_DEFAULTS = ReportOptions()
_SHOWN_TWICE = 3_000_000  # kept back for those that are on the map and in a section


def write_report(
    table: FeatureTable | str | os.PathLike[str],
    file: str | os.PathLike[str],
    options: ReportOptions = _DEFAULTS,
    progress: Step = no_steps,
) -> tuple[Findings, Pictures]:
    """Write a page that shows what is in a feature table.

        pomona.write_report("features/", "report.html")

    The page is written whole or not at all.

    Args:
        table: a feature table, its path or URI. The title of the page is what you give.
        file: where to write the page.
        options: what the page shows.
        progress: called with the progress.

    Returns:
        What the page says, and its pictures.

    Raises:
        TableError: it is no feature table, or has no vectors.
        UsageError: the page cannot be written, or options that cannot be.
    """
    name, table, file = str(table), FeatureTable.of(table), Path(file)
    check_output(file)
    check_map(options.map)
    found = look_at(name, table, options, progress)
    started = time.monotonic()
    chosen = choose(found)
    mapped = [found.sample.paths[row] for row in found.mapped]
    pictures = read_pictures(
        [*chosen.paths(found), *mapped], _PICTURE_BYTES - _SHOWN_TWICE, progress
    )
    found.seconds["reading pictures"] = time.monotonic() - started
    text = render(found, pictures, dt.datetime.now(dt.UTC))
    with written_whole(file, UsageError) as draft:
        draft.write_text(text, encoding="utf-8")
    return found, pictures


def render(found: Findings, pictures: Pictures, now: dt.datetime) -> str:
    """The page as text."""
    style, script = _part("page.css"), _part("page.js")
    parts = sections(found, choose(found), pictures)
    contents = [("map", "Map"), *((name, title) for name, title, _ in parts)]
    links = join(tag("li", tag("a", title, href=f"#{name}")) for name, title in contents)
    body = join(
        [
            tag("a", "To the content", href="#main", class_="skip"),
            tag("header", *_head(found, now), tag("nav", tag("ul", links), aria_label="Sections")),
            tag(
                "main",
                tag("section", *_map(found, pictures), id="map", aria_labelledby="map-title"),
                *(
                    tag(
                        "section",
                        tag("h2", title, id=f"{name}-title"),
                        content,
                        id=name,
                        aria_labelledby=f"{name}-title",
                    )
                    for name, title, content in parts
                ),
                id="main",
            ),
            tag("footer", f"Written by Pomona {found.provenance.get('pomona_version', '')}."),
            data_script("data", _data(found, pictures)),
            tag("script", Markup(script)),
        ]
    )
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )
    head = join(
        [
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=policy),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", f"{found.name}: report of a feature table"),
            tag("style", Markup(style)),
        ]
    )
    return f"<!doctype html>\n{tag('html', tag('head', head), tag('body', body), lang='en')}\n"


def _digest(content: str) -> str:
    """As a content security policy names what it lets through."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _part(name: str) -> str:
    return files("pomona.analysis.report").joinpath(name).read_text(encoding="utf-8")


def _head(found: Findings, now: dt.datetime) -> list[Markup]:
    told = found.provenance
    failed = found.rows - found.statuses["ok"]
    accuracy = "-" if found.accuracy is None else f"{found.accuracy:.1%}"
    classes = len([label for label in found.labels if label is not None])
    suspects, groups = len(found.suspects), len(found.near) + len(found.exact)
    tiles = [
        (f"{found.rows:,}", noun_for(found.rows, "image"), "map"),
        (f"{failed:,}", "failed", "failures"),
        (f"{classes:,}", noun_for(classes, "class", "classes"), "classes"),
        (accuracy, "nearest has the same label", "classes"),
        (f"{suspects:,}", noun_for(suspects, "suspected mislabel"), "suspects"),
        (
            f"{groups:,}",
            noun_for(groups, "group of duplicates", "groups of duplicates"),
            "duplicates",
        ),
    ]
    made = f"{told.get('model', '?')}, weights {told.get('weights', '?')}"
    if "projection" in told:
        made += f", {told['projection']}"
    return [
        tag("h1", found.name),
        tag(
            "p",
            f"A feature table of {count_of(int(told['dimension']), 'number')} an image, by {made}. "
            f"Looked at on {now.strftime('%Y-%m-%d')}.",
        ),
        tag(
            "ul",
            *(
                tag("li", tag("a", tag("b", value), tag("span", what), href=f"#{where}"))
                for value, what, where in tiles
            ),
            class_="tiles",
        ),
        *_sampled(found),
    ]


def _sampled(found: Findings) -> list[Markup]:
    compared, ok = len(found.sample.paths), found.statuses["ok"]
    if compared == ok:
        return []
    return [
        tag(
            "p",
            f"Neighbours, mislabels and near duplicates are those among {compared:,} of the "
            f"{count_of(ok, 'image')}, evenly spread over the table.",
            class_="note",
        )
    ]


def _map(found: Findings, pictures: Pictures) -> list[Markup]:
    shown, ok = len(found.mapped), found.statuses["ok"]
    how = "t-SNE: near on the map is near in the vectors, far says little"
    if found.options.map == "pca":
        how = "the two directions in which the vectors differ most (PCA)"
    told = count_of(ok, "image")
    if shown < ok:
        told = f"{shown:,} of {told}, evenly spread"
    gone = len(pictures.missing & {found.sample.paths[row] for row in found.mapped})
    without = len(pictures.left_out & {found.sample.paths[row] for row in found.mapped})
    told += f"; placed by {how}."
    if gone:
        have = "it has" if gone == 1 else "they have"
        told += f" {count_of(gone, 'file')} could not be read any more: {have} no picture here."
    if without:
        told += f" {count_of(without, 'picture')} did not fit into the page."
    buttons = [
        tag("button", text, type="button", id=name, title=title, aria_label=title)
        for name, text, title in (
            ("zoom-in", "+", "Zoom in (+)"),
            ("zoom-out", "\u2212", "Zoom out (-)"),
            ("reset", "Reset", "Show the whole map (0)"),
        )
    ]
    lasso = tag(
        "button",
        "Lasso",
        type="button",
        id="lasso",
        aria_pressed="false",
        title="Draw around images to choose them (or hold Shift)",
    )
    canvas = tag(
        "canvas",
        f"A map of {count_of(shown, 'image')}. The classes are in the table below it.",
        id="canvas",
        tabindex=0,
        role="application",
        aria_roledescription="map",
        aria_label="Map of images. Arrow keys go from image to image, plus and minus zoom, "
        "0 shows all, Enter chooses an image.",
        aria_describedby="map-said",
    )
    return [
        tag("h2", "Map", id="map-title"),
        tag("p", told, class_="note", id="map-said"),
        tag("div", *buttons, lasso, class_="tools", role="group", aria_label="Map tools"),
        tag(
            "div",
            tag("div", canvas, tag("div", id="tip", hidden=""), class_="stage"),
            tag("div", id="legend", role="group", aria_label="Classes: press to hide or show"),
            class_="map",
        ),
        tag("p", "", id="said", class_="hidden", role="status", aria_live="polite"),
        tag(
            "div",
            tag("h3", "Chosen images", tabindex=-1, id="chosen-title"),
            tag("p", "", id="chosen-count"),
            tag("div", id="chosen-pictures", class_="cards"),
            tag("label", "Their paths", for_="chosen-paths"),
            tag("textarea", id="chosen-paths", readonly="", rows=4),
            id="chosen",
            hidden="",
        ),
    ]


def _data(found: Findings, pictures: Pictures) -> dict[str, Any]:
    """What the map's script reads."""
    paths = [found.sample.paths[row] for row in found.mapped]
    shared = paths[0].rpartition("/")[0]
    while shared and not all(path.startswith(f"{shared}/") for path in paths):
        shared = shared.rpartition("/")[0]
    start = f"{shared}/" if shared else ""
    labels = [named(found.sample.labels[row]) for row in found.mapped]
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
