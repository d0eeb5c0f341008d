"""How much of the variance a projection keeps, and where its rows lie along two components."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.analysis.figures.style import class_colours, new_figure, plain, tidy
from pomona.messages import count_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pomona.analysis.projection import MapPoints, Projected

__all__ = ["draw_projection"]

_NAMED = 12  # labels with a colour of their own


def draw_projection(made: Projected) -> Figure:
    """Draw the scree curve and, of two components or more, a map coloured by label."""
    with_map = len(made.projection.components) > 1
    figure = new_figure(12 if with_map else 6, 5)
    columns = 2 if with_map else 1
    _draw_scree(figure.add_subplot(1, columns, 1), made)
    if with_map:
        _draw_map(figure.add_subplot(1, columns, 2), made)
    return figure


def _draw_scree(axes: Any, made: Projected) -> None:
    shares = made.projection.explained
    numbers = np.arange(1, len(shares) + 1)
    axes.bar(numbers, shares, color="#0072b2", width=0.8, label="each component")
    axes.plot(numbers, np.cumsum(shares), color="#d55e00", marker=".", label="all so far")
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.xaxis.get_major_locator().set_params(integer=True)
    tidy(
        axes,
        f"{len(shares)} of {count_of(len(made.projection.mean), 'component')}: {shares.sum():.1%} "
        "of the variance",
        "component",
        "share of the variance",
    )
    axes.legend(frameon=False, loc="center right")


def _draw_map(axes: Any, made: Projected) -> None:
    points, shares = made.points, made.projection.explained
    places = np.concatenate(points.places)
    labels = np.array([label if label is not None else "" for label in points.labels], object)
    named = [label for label, _ in Counter(labels.tolist()).most_common(_NAMED)]
    rest = ~np.isin(labels, named)
    size = float(np.clip(4_000 / np.sqrt(len(places)) / 10, 3, 20))
    if rest.any():
        others = len(set(labels[rest].tolist()))
        axes.scatter(*places[rest].T, s=size, color="#c4c4c4", linewidths=0, label=f"{others} more")
    # Largest class first, so that small ones lie on top.
    for label, colour in zip(named, class_colours(len(named)), strict=True):
        mine = places[labels == label]
        name = plain(label) if label else "(no label)"
        axes.scatter(*mine.T, s=size, color=colour, alpha=0.7, linewidths=0, label=name)
    shown = _told(points, len(places))
    tidy(axes, shown, f"component 1 ({shares[0]:.1%})", f"component 2 ({shares[1]:.1%})")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), markerscale=2, fontsize=9)


def _told(points: MapPoints, shown: int) -> str:
    return count_of(shown, "image") + (f", of {points.of:,}" if shown < points.of else "")
