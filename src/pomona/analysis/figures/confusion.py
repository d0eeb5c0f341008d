"""What a classifier confuses, as a picture: the confusion matrix, or the images of many classes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.analysis.figures.style import check_plot, new_figure, plain, save_figure, tidy
from pomona.analysis.figures.thumbnails import read_thumbnails
from pomona.messages import count_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from PIL import Image

    from pomona.analysis.classifier.evaluation import ConfusedPair, Evaluation

__all__ = ["plot_confusion"]

_MOST_CELLS = 20  # largest number of classes whose matrix can be read
_SIDE = 160  # pixels of a thumbnail
_WORDS = 2.2  # width of the words beside a row of pictures, in pictures


def plot_confusion(evaluation: Evaluation, path: str | os.PathLike[str]) -> None:
    """Draw the confusion matrix of up to 20 classes, or the most confused pairs of more classes.

    A cell of the matrix has the count of images by label and predicted label; its colour is the
    share of the row. A pair of classes is drawn with the images that were confused, or as a bar if
    no image is found at its path.

    Raises:
        UsageError: the extension is unknown, matplotlib is missing, or the file cannot be written.
    """
    file = Path(path)
    check_plot(file)
    low, high = evaluation.interval
    title = (
        f"{evaluation.accuracy:.2%} of {count_of(evaluation.images, 'image')} right\n"
        f"(95 % Wilson interval {low:.2%} to {high:.2%})"
    )
    if len(evaluation.labels) <= _MOST_CELLS or not evaluation.confused:
        figure = _draw_matrix(evaluation, title)
    else:
        pairs = evaluation.confused
        title += f"\n\nThe most confused of {len(evaluation.labels):,} classes"
        paths = [example.path for pair in pairs for example in pair.examples]
        pictures = dict(zip(paths, read_thumbnails(paths, _SIDE), strict=True))
        found = any(picture is not None for picture in pictures.values())
        figure = _draw_pictures(pairs, pictures, title) if found else _draw_bars(pairs, title)
    save_figure(figure, file)


def _draw_matrix(evaluation: Evaluation, title: str) -> Figure:
    confusion = evaluation.confusion
    side = min(max(4.5, 2.2 + 0.5 * len(confusion)), 24)
    figure = new_figure(side + 1.2, side)
    axes = figure.add_subplot()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label("share of the images with this label")
    _name(axes, evaluation.labels)
    if len(confusion) <= _MOST_CELLS:
        _write_counts(axes, confusion, shares)
    axes.set_title(title, fontsize=11)
    return figure


def _name(axes: Any, labels: tuple[str, ...]) -> None:
    size = 10 if len(labels) <= _MOST_CELLS else max(3, 250 / len(labels))
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


def _draw_pictures(
    pairs: Sequence[ConfusedPair], pictures: dict[str, Image.Image | None], title: str
) -> Figure:
    columns = max(len(pair.examples) for pair in pairs)
    width, height = _WORDS + columns, len(pairs)
    figure = new_figure(1.3 * width, 1.3 * height + 1)
    axes = figure.add_subplot()
    for row, pair in enumerate(pairs):
        words = f"{plain(pair.label)}\n    predicted as\n{plain(pair.predicted)}\n\n{_share(pair)}"
        axes.text(0, row + 0.5, words, va="center", size=10)
        for column, example in enumerate(pair.examples):
            left = _WORDS + column
            _draw_picture(axes, pictures[example.path], left, row)
            axes.text(left + 0.5, row + 0.98, f"{example.probability:.2f}", ha="center", size=8)
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    axes.axis("off")
    axes.set_title(f"{title}, with the probability of the wrong label", fontsize=11, loc="left")
    return figure


def _draw_picture(axes: Any, picture: Image.Image | None, left: float, top: int) -> None:
    """Draw into a square of 0.82; a small picture is enlarged."""
    if picture is None:
        axes.text(left + 0.5, top + 0.5, "not found", ha="center", va="center", size=8)
        return
    scale = 0.41 / max(picture.size)
    x, y = picture.width * scale, picture.height * scale
    middle = top + 0.44
    axes.imshow(
        np.asarray(picture), extent=(left + 0.5 - x, left + 0.5 + x, middle + y, middle - y)
    )


def _draw_bars(pairs: Sequence[ConfusedPair], title: str) -> Figure:
    figure = new_figure(9, 0.3 * len(pairs) + 1.8)
    axes: Any = figure.add_subplot()
    bars = axes.barh(range(len(pairs)), [pair.images for pair in pairs], color="#0072b2")
    axes.bar_label(bars, [_share(pair) for pair in pairs], padding=4, size=9)
    names = [f"{plain(pair.label)} predicted as {plain(pair.predicted)}" for pair in pairs]
    axes.set_yticks(range(len(pairs)), names)
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.xaxis.get_major_locator().set_params(integer=True)
    tidy(axes, title, "images", "")
    return figure


def _share(pair: ConfusedPair) -> str:
    return f"{pair.images:,} of {pair.of:,} ({pair.images / pair.of:.0%})"
