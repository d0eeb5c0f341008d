"""The confusion matrix as a picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.analysis.figures.style import check_plot, new_figure, plain, save_figure
from pomona.messages import count_of

if TYPE_CHECKING:
    from pomona.analysis.classifier.evaluation import Evaluation

__all__ = ["plot_confusion"]

_MOST_NUMBERS = 25  # largest number of classes for which counts fit into the cells


def plot_confusion(evaluation: Evaluation, path: str | os.PathLike[str]) -> None:
    """Draw counts by label and predicted label; a cell's colour is its share of the row.

    Raises:
        UsageError: the extension is unknown, matplotlib is missing, or the file cannot be written.
    """
    file = Path(path)
    check_plot(file)
    confusion = evaluation.confusion
    side = min(max(4.5, 2.2 + 0.5 * len(confusion)), 24)
    figure = new_figure(side + 1.2, side)
    axes = figure.add_subplot()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label("share of the images with this label")
    _name(axes, evaluation.labels)
    if len(confusion) <= _MOST_NUMBERS:
        _write_counts(axes, confusion, shares)
    low, high = evaluation.interval
    axes.set_title(
        f"{evaluation.accuracy:.2%} of {count_of(evaluation.images, 'image')} right\n"
        f"(95 % Wilson interval {low:.2%} to {high:.2%})",
        fontsize=11,
    )
    save_figure(figure, file)


def _name(axes: Any, labels: tuple[str, ...]) -> None:
    size = 10 if len(labels) <= _MOST_NUMBERS else max(3, 250 / len(labels))
    names = [plain(label) for label in labels]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(labelsize=size)
    axes.set_xlabel("predicted label")
    axes.set_ylabel("label of the image")


def _write_counts(axes: Any, confusion: Any, shares: Any) -> None:
    for (row, column), count in np.ndenumerate(confusion):
        if count:
            colour = "white" if shares[row, column] > 0.6 else "black"
            axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour, size=9)
