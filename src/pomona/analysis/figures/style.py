"""Figures in one style, drawn without a display; matplotlib is imported only here."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pomona.errors import UsageError
from pomona.extras import check_extra
from pomona.io.location import written_whole
from pomona.table.feature_table import check_output

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check_plot", "class_colours", "new_figure", "plain", "save_figure", "tidy"]

_KINDS = {".png", ".svg", ".pdf"}

_COLOURS = (
    "#0072b2", "#e69f00", "#009e73", "#b8202e", "#cc79a7", "#56b4e9", "#3d5a80", "#4d9221",
    "#6b4fa1", "#8c6d31", "#d55e00", "#c2a5cf",
)  # fmt: skip
"""After Okabe and Ito (2008). Similar colours, also for the colour-blind, are far apart."""


def check_plot(file: Path | None) -> None:
    """Check before the work that a figure of that name can be written.

    Raises:
        UsageError: the extension is unknown, matplotlib is missing, or the file cannot be written.
    """
    if file is None:
        return
    if file.suffix.lower() not in _KINDS:
        raise UsageError(f"{file}: expected the name of a {', '.join(sorted(_KINDS))} file")
    check_output(file)
    check_extra("analysis", "a plot needs matplotlib", "matplotlib")


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, sizes in inches, without a display or changes of global settings."""
    from matplotlib.figure import Figure as New

    return New(figsize=(width, height), layout="constrained", dpi=120)


def tidy(axes: Any, title: str, x: str, y: str) -> None:
    """Set title and axis labels, and hide the top and right spines."""
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)


def save_figure(figure: Figure, file: Path) -> None:
    """Write a figure atomically.

    Raises:
        UsageError: the file cannot be written.
    """
    with written_whole(file, UsageError) as draft, warnings.catch_warnings():
        # Characters that the font lacks are drawn as boxes, also if warnings are errors.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(draft)


def plain(text: str, longest: int = 28) -> str:
    """Return a label for matplotlib: `$` starts no formula, and a leading `_` does not hide it."""
    text = "".join(c if c.isprintable() else "." for c in text).replace("$", r"\$")
    shown = text if len(text) <= longest else text[: longest - 3] + "..."
    return f" {shown}" if shown.startswith("_") else shown


def class_colours(count: int) -> list[str]:
    """Return a colour for each class; they repeat from the 13th on."""
    return [_COLOURS[i % len(_COLOURS)] for i in range(count)]
