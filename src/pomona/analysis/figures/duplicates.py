"""The histogram that helps to choose a threshold for near duplicates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pomona.analysis.figures.style import new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pomona.analysis.neighbours.duplicates import Duplicates

__all__ = ["draw_histogram"]

_BINS = 120


def draw_histogram(found: Duplicates) -> Figure:
    """Draw the similarities of nearest and of random pairs of images, with the threshold."""
    figure = new_figure(8, 4)
    axes = figure.subplots()
    low = float(min(np.quantile(found.random, 0.001, method="lower"), found.nearest.min()))
    bins = np.linspace(max(low, -1), 1.0, _BINS + 1)
    for values, colour, name in (
        (found.random, "#b4b4b4", "two images at random"),
        (found.nearest, "#0072b2", "an image and its nearest"),
    ):
        # Rounding may make the similarity of equal vectors larger than 1.
        share = np.histogram(np.clip(values, bins[0], 1), bins)[0] / len(values)
        axes.stairs(share, bins, fill=True, color=colour, alpha=0.75, label=name)
    threshold = found.threshold if found.threshold is not None else np.nan
    right = threshold > (bins[0] + 1) / 2
    axes.set_ylim(0, 1.3 * axes.dataLim.ymax)  # room for text above the bars
    axes.axvline(threshold, color="#d55e00", linewidth=1.5)
    axes.annotate(
        f"threshold {threshold:g}\n{found.share:.1%} of the images",
        (threshold, 1),
        (-8 if right else 8, -4),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="right" if right else "left",
        va="top",
        color="#a84300",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2},
    )
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    tidy(axes, "How near images are to each other", "similarity of two images", "share")
    axes.legend(frameon=False, loc="upper left")
    return figure
