"""Plots of a projection: the variance it keeps, and its rows along two components."""

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

_NAMED = 12  # labels with their own colour


def draw_projection(projected: Projected) -> Figure:
    """Draw the scree curve and, for two components or more, a map coloured by label."""
    with_map = len(projected.projection.components) > 1
    figure = new_figure(12 if with_map else 6, 5)
    columns = 2 if with_map else 1
    _draw_scree(figure.add_subplot(1, columns, 1), projected)
    if with_map:
        _draw_map(figure.add_subplot(1, columns, 2), projected)
    return figure


def _draw_scree(axes: Any, projected: Projected) -> None:
    shares = projected.projection.explained
    numbers = np.arange(1, len(shares) + 1)
    axes.bar(numbers, shares, color="#0072b2", width=0.8, label="each component")
    axes.plot(numbers, np.cumsum(shares), color="#d55e00", marker=".", label="cumulative")
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.xaxis.get_major_locator().set_params(integer=True)
    tidy(
        axes,
        f"{len(shares)} of {count_of(len(projected.projection.mean), 'component')}: "
        f"{shares.sum():.1%} of the variance",
        "component",
        "share of the variance",
    )
    axes.legend(frameon=False, loc="center right")


def _draw_map(axes: Any, projected: Projected) -> None:
    points, shares = projected.points, projected.projection.explained
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
    shown = _map_title(points, len(places))
    tidy(axes, shown, f"component 1 ({shares[0]:.1%})", f"component 2 ({shares[1]:.1%})")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), markerscale=2, fontsize=9)


def _map_title(points: MapPoints, shown: int) -> str:
    return count_of(shown, "image") + (f", of {points.of:,}" if shown < points.of else "")
