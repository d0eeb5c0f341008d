"""The confusion matrix as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.errors import RunError, UsageError

if TYPE_CHECKING:
    from pomona.analysis.evaluation import Evaluation

__all__ = ["check_plot", "plot_confusion"]

_FORMATS = (".pdf", ".png", ".svg")
_MOST_NUMBERS = 25  # classes up to which the counts can be read in their cells
_LONGEST_NAME = 28


def check_plot(path: str) -> None:
    """Make sure that a picture can be written, before the work is done.

    Raises:
        UsageError: a format that is not known, no such folder, or no matplotlib.
    """
    file = Path(path)
    if file.suffix.lower() not in _FORMATS:
        raise UsageError(f"--plot {path}: expected a name that ends in {', '.join(_FORMATS)}")
    if not file.absolute().parent.is_dir():
        raise UsageError(f"--plot {path}: there is no folder {file.parent}")
    try:
        import matplotlib as mpl  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise UsageError(
            "--plot needs matplotlib, which is not installed: pip install 'pomona[analysis]'"
        ) from error


def plot_confusion(evaluation: Evaluation, path: str) -> None:
    """Draw counts by label and by the label given; a cell's colour is its share of the row.

    Raises:
        UsageError: as `check_plot`.
        RunError: the file cannot be written.
    """
    check_plot(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure  # not pyplot: that is global, and looks for a screen

    confusion = evaluation.confusion
    side = min(max(4.5, 2.2 + 0.5 * len(confusion)), 24)
    figure = Figure(figsize=(side + 1.2, side), layout="constrained")
    FigureCanvasAgg(figure)
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
        f"{evaluation.accuracy:.2%} of {evaluation.images:,} images right\n"
        f"(95 % Wilson interval {low:.2%} to {high:.2%})",
        fontsize=11,
    )
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error


def _name(axes: Any, labels: tuple[str, ...]) -> None:
    size = 10 if len(labels) <= _MOST_NUMBERS else max(3, 250 / len(labels))
    # matplotlib takes what stands between dollars for mathematics.
    names = [_shortened(label).replace("$", r"\$") for label in labels]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(labelsize=size)
    axes.set_xlabel("label given")
    axes.set_ylabel("label of the image")


def _write_counts(axes: Any, confusion: Any, shares: Any) -> None:
    for (row, column), count in np.ndenumerate(confusion):
        if count:
            colour = "white" if shares[row, column] > 0.6 else "black"
            axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour, size=9)


def _shortened(label: str) -> str:
    text = "".join(c if c.isprintable() else "?" for c in label)
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 3]}..."
