"""The sections of a report's page, each from what was found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pomona.analysis.report.markup import Markup, join, table, tag
from pomona.plural import count_of

if TYPE_CHECKING:
    from pomona.analysis.report.findings import Findings
    from pomona.analysis.report.label_quality import ClassSeparation
    from pomona.analysis.report.pictures import Pictures

__all__ = ["Chosen", "choose", "sections"]

_CLASSES, _SAMPLES, _SUSPECTS, _GROUPS, _OF_GROUP, _EXAMPLES = 100, 6, 24, 8, 8, 8


class Chosen:
    """Which rows are shown with their pictures, but for the map.

    Attributes:
        samples: by label, numbers of rows.
        examples: rows whose neighbours are shown.
        groups: of near duplicates, spread over each group.
    """

    def __init__(self, found: Findings) -> None:
        by_label: dict[str | None, list[int]] = {}
        for row, label in enumerate(found.sample.labels):
            by_label.setdefault(label, []).append(row)
        largest = sorted(by_label, key=lambda label: -len(by_label[label]))[:_CLASSES]
        self.samples = {label: spread(by_label[label], _SAMPLES) for label in largest}
        self.examples = [self.samples[label][0] for label in largest[:_EXAMPLES]]
        if len(largest) < _EXAMPLES:
            # Of few classes some rows each, from their middle on.
            more = [row for label in largest for row in spread(by_label[label], 5)[2:4]]
            self.examples = list(dict.fromkeys([*self.examples, *more]))[:_EXAMPLES]
        self.groups = [spread(group, _OF_GROUP) for group in found.near[:_GROUPS]]

    def paths(self, found: Findings) -> list[str]:
        """All paths that need a picture, the most needed first; failures are among them."""
        rows = [suspect.row for suspect in found.suspects[:_SUSPECTS]]
        rows += [row for suspect in rows for row in found.neighbours.rows[suspect][:4]]
        rows += [row for chosen in self.samples.values() for row in chosen]
        rows += [row for group in self.groups for row in group]
        for row in self.examples:
            rows += [row, *found.neighbours.rows[row][:_SAMPLES]]
        paths = [found.sample.paths[row] for row in rows]
        paths += [m.path for group in found.exact[:_GROUPS] for m in group.members[:_OF_GROUP]]
        return paths + [failure.path for failure in found.failures]


def choose(found: Findings) -> Chosen:
    """Choose what is shown with pictures; the same table gives the same choice."""
    return Chosen(found)


def sections(found: Findings, chosen: Chosen, pictures: Pictures) -> list[tuple[str, str, Markup]]:
    """Identifier, title and content of each section after the map."""
    return [
        ("classes", "Classes", _classes(found, chosen, pictures)),
        ("suspects", "Suspected mislabels", _suspects(found, pictures)),
        ("duplicates", "Duplicates", _duplicates(found, chosen, pictures)),
        ("neighbours", "Nearest neighbours", _examples(found, chosen, pictures)),
        ("failures", "Failures", _failures(found, pictures)),
        ("provenance", "Provenance", _provenance(found)),
    ]


def spread(rows: Sequence[int], most: int) -> list[int]:
    """At most so many, evenly spread."""
    return [rows[int(at)] for at in np.linspace(0, len(rows) - 1, min(most, len(rows)))]


def picture(path: str, said: str, pictures: Pictures) -> Markup:
    """A picture, or a box that says that there is none."""
    uri = pictures.uri(path)
    if uri:
        return tag("img", src=uri, alt=said, title=path, loading="lazy")
    why = "no room" if path in pictures.left_out else "no picture"
    return tag("span", why, class_="none", role="img", aria_label=f"{said}: {why}", title=path)


def named(label: str | None) -> str:
    """A label as it is shown."""
    return "(no label)" if label is None else label


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _card(path: str, first: str, second: str, pictures: Pictures, mark: str = "") -> Markup:
    return tag(
        "figure",
        picture(path, f"{first}, {_name(path)}", pictures),
        tag("figcaption", tag("b", first), tag("span", second)),
        class_=f"card {mark}".strip(),
    )


def _note(*content: str) -> Markup:
    return tag("p", *content, class_="note")


def _classes(found: Findings, chosen: Chosen, pictures: Pictures) -> Markup:
    scores = {score.label: score for score in found.scores}
    shown = sorted(found.labels, key=lambda label: (label is None, label or ""))
    if len(shown) > _CLASSES:
        kept = {label for label, _ in found.labels.most_common(_CLASSES)}
        shown = [label for label in shown if label in kept]
    rows = []
    for label in shown:
        samples = join(
            picture(found.sample.paths[row], named(label), pictures)
            for row in chosen.samples.get(label, ())
        )
        rows.append(
            (
                named(label),
                f"{found.labels[label]:,}",
                f"{found.failed_labels[label]:,}",
                _accuracy(scores.get(label or "") if label is not None else None),
                tag("div", samples, class_="strip"),
            )
        )
    classes = count_of(len(found.labels), "class", "classes")
    told = (
        f"{len(shown):,} of {classes}, the largest" if len(shown) < len(found.labels) else classes
    )
    return join(
        [
            _note(
                "Separability is leave-one-out: of how many images the nearest other image has the "
                "same label. The bar ends at that share; the bracket is its 95 % interval. Near "
                "duplicates make it look better than it is."
            ),
            table(told, ["class", "images", "failed", "separability", "some of them"], rows),
        ]
    )


def _accuracy(score: ClassSeparation | None) -> Markup:
    if score is None:
        return tag("span", "not asked", class_="quiet")
    low, high = score.interval
    said = f"{score.accuracy:.1%}"
    bar = tag(
        "svg",
        tag("rect", class_="track", width=100, height=10, rx=3),
        tag("rect", class_="share", width=f"{100 * score.accuracy:.1f}", height=10, rx=3),
        tag(
            "path",
            class_="interval",
            d=f"M{100 * low:.1f} 1v8M{100 * low:.1f} 5H{100 * high:.1f}M{100 * high:.1f} 1v8",
        ),
        viewBox="0 0 100 10",
        class_="bar",
        aria_hidden="true",
    )
    more = f"{low:.1%} to {high:.1%}"
    if score.confused_with is not None:
        more += f"; {score.confused:,} nearest to {score.confused_with}"
    return join([tag("span", said, class_="figure"), bar, tag("small", more)])


def _suspects(found: Findings, pictures: Pictures) -> Markup:
    if not found.scores:
        return _note("The table has no labels to doubt.")
    if not found.suspects:
        return _note("None: no image has neighbours that mostly bear one other label.")
    cards = []
    for suspect in found.suspects[:_SUSPECTS]:
        path = found.sample.paths[suspect.row]
        near = [found.sample.paths[row] for row in found.neighbours.rows[suspect.row][:4]]
        beside = join(picture(other, "a neighbour", pictures) for other in near)
        cards.append(
            tag(
                "article",
                picture(
                    path, f"{named(found.sample.labels[suspect.row])}, {_name(path)}", pictures
                ),
                tag(
                    "div",
                    tag("b", named(found.sample.labels[suspect.row])),
                    tag(
                        "p",
                        f"{suspect.votes} of {suspect.of} neighbours are ",
                        tag("b", suspect.other),
                    ),
                    tag("div", beside, class_="strip small"),
                    tag("code", path),
                ),
                class_="suspect",
            )
        )
    count = len(found.suspects)
    more = f" The {len(cards)} clearest of {count:,}." if count > len(cards) else ""
    return join(
        [
            _note(
                f"{count_of(count, 'image')} whose ten nearest mostly bear one other label: a "
                "wrong label, "
                f"or an image that is hard to tell.{more}"
            ),
            tag("div", *cards, class_="suspects"),
        ]
    )


def _duplicates(found: Findings, chosen: Chosen, pictures: Pictures) -> Markup:
    threshold = found.options.threshold
    parts = [
        _note(
            f"{count_of(len(found.exact), 'group')} of the same file, byte for byte; "
            f"{count_of(len(found.near), 'group')} of near duplicates, in which each image has "
            f"another one with a cosine of {threshold:g} or more. ",
            tag("code", "pomona duplicates"),
            " lists all of them, and helps to choose the threshold.",
        )
    ]
    for number, group in enumerate(found.exact[:_GROUPS], start=1):
        members = group.members
        cards = [
            _card(m.path, named(m.label), _name(m.path), pictures) for m in members[:_OF_GROUP]
        ]
        parts.append(_group(f"Same file {number}", len(members), len(group.labels) > 1, cards))
    for number, rows in enumerate(chosen.groups, start=1):
        whole = found.near[number - 1]
        labels = {found.sample.labels[row] for row in whole}
        cards = [_row_card(found, row, pictures) for row in rows]
        parts.append(_group(f"Near {number}", len(whole), len(labels) > 1, cards))
    return join(parts)


def _group(name: str, size: int, differ: bool, cards: Iterable[Markup]) -> Markup:
    said = f"{name}: {count_of(size, 'image')}" + (", labels differ" if differ else "")
    return join([tag("h3", said), tag("div", *cards, class_="cards")])


def _row_card(found: Findings, row: int, pictures: Pictures, said: str = "") -> Markup:
    path = found.sample.paths[row]
    return _card(path, named(found.sample.labels[row]), said or _name(path), pictures)


def _examples(found: Findings, chosen: Chosen, pictures: Pictures) -> Markup:
    if not found.neighbours.rows.size:
        return _note("A single image has no neighbours.")
    rows = []
    for row in chosen.examples:
        near = zip(found.neighbours.rows[row], found.neighbours.similarity[row], strict=True)
        label, path = found.sample.labels[row], found.sample.paths[row]
        asked = _card(path, named(label), _name(path), pictures, "asked")
        cards = [
            _row_card(found, int(other), pictures, f"{similarity:.3f}")
            for other, similarity in list(near)[:_SAMPLES]
        ]
        rows.append(tag("div", asked, *cards, class_="cards"))
    return join(
        [
            _note(
                "Framed, an image; beside it the nearest ones of the table, with their cosine. ",
                tag("code", "pomona search"),
                " finds them for any image.",
            ),
            *rows,
        ]
    )


def _failures(found: Findings, pictures: Pictures) -> Markup:
    failed = {status: count for status, count in found.statuses.items() if status != "ok"}
    if not failed:
        return _note("None: every file has its vector.")
    told = ", ".join(f"{count:,} {status}" for status, count in sorted(failed.items()))
    count = sum(failed.values())
    rows = [
        (failure.status, failure.error, _shown(failure.path, pictures), tag("code", failure.path))
        for failure in found.failures
    ]
    caption = f"{len(rows):,} of {count:,}" if len(rows) < count else "all of them"
    return join(
        [
            _note(f"Files without a vector: {told}."),
            table(caption, ["status", "reason", "picture", "path"], rows),
        ]
    )


def _shown(path: str, pictures: Pictures) -> Markup:
    return tag("div", picture(path, _name(path), pictures), class_="strip small")


def _provenance(found: Findings) -> Markup:
    first, last = (moment.strftime("%Y-%m-%d %H:%M UTC") for moment in found.written)
    pairs = [(key, tag("code", value)) for key, value in found.provenance.items()]
    steps = [(what, f"{seconds:.1f} s") for what, seconds in found.seconds.items()]
    steps.append(("the whole report", f"{sum(found.seconds.values()):.1f} s"))
    return join(
        [
            _note(f"The table's first part file was written on {first}, its last on {last}."),
            table("what made the vectors", ["key", "value"], pairs),
            tag("h3", "How long this report took"),
            table("seconds by step", ["step", "took"], steps),
        ]
    )
