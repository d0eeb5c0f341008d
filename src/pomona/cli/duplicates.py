"""`pomona duplicates`: images that are in a table more than once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pomona.cli.console import AS_JSON, results_follow, say
from pomona.cli.options import THRESHOLD
from pomona.cli.paths import as_file, as_path
from pomona.cli.progress import steps_bar
from pomona.cli.sections import SectionedCommand

if TYPE_CHECKING:
    from pomona.analysis.neighbours.duplicates import Duplicates

__all__ = ["duplicates"]

_SHEET_ROWS, _SHEET_COLUMNS = 100, 10


@click.command(
    cls=SectionedCommand,
    sections={
        "Comparison": "--threshold --exact",
        "Output": "--groups --plot --sheet --json",
    },
    short_help="Find images that are in a table more than once.",
    epilog="Example: pomona duplicates features/ --threshold 0.9 --plot near.png",
)
@click.argument("table", type=as_path)
@THRESHOLD
@click.option("--exact", is_flag=True, help="Compare only files, not vectors.")
@click.option(
    "--groups",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Number of groups of each kind to show.",
)
@click.option(
    "--plot",
    metavar="FILE",
    type=as_file,
    help="Plot the similarities of image pairs, and the threshold: PNG, SVG or PDF.",
)
@click.option(
    "--sheet",
    metavar="FILE",
    type=as_file,
    help="Draw a contact sheet, .png, .jpg or .webp: a row of up to ten images for each group that "
    "is shown.",
)
@AS_JSON
def duplicates(
    *,
    table: str,
    threshold: float,
    exact: bool,
    groups: int,
    plot: Path | None,
    sheet: Path | None,
    as_json: bool,
) -> None:
    """Find images that are in the feature table TABLE more than once.

    Exact duplicates are the same file byte for byte. Near duplicates are groups of images whose
    similarity to the first of the group is --threshold or more: 1 means equal, and two random
    images have about 0. The first image of a group is the one to keep: the largest, and of these
    the least compressed. The command only lists duplicates.
    """
    from pomona.analysis.figures.contact_sheet import check_picture
    from pomona.analysis.figures.style import check_plot, save_figure
    from pomona.analysis.neighbours.duplicates import find_duplicates
    from pomona.cli.render import show_duplicates
    from pomona.errors import UsageError
    from pomona.table.feature_table import FeatureTable

    if sheet:
        check_picture(sheet)
    check_plot(plot)
    if exact and plot:
        raise UsageError("--plot needs vectors, but --exact compares only files: leave one out")
    with steps_bar() as step:
        found = find_duplicates(FeatureTable.at(table), None if exact else threshold, step)
    if plot:
        from pomona.analysis.figures.duplicates import draw_histogram

        if not len(found.nearest):
            raise UsageError(f"--plot: {table} has fewer than two vectors to compare")
        save_figure(draw_histogram(found), plot)
        say(f"plot: {plot}")
    if sheet:
        _write_sheet(sheet, found, groups)
    results_follow()
    if as_json:
        click.echo(json.dumps({"table": table, **found.to_json()}, ensure_ascii=False))
    else:
        show_duplicates(table, found, groups)


def _write_sheet(file: Path, found: Duplicates, groups: int) -> None:
    import numpy as np

    from pomona.analysis.figures.contact_sheet import Cell, draw_sheet, save_picture

    shown = [*found.exact[:groups], *found.near[:groups]][:_SHEET_ROWS]
    if not shown:
        say(f"note: there are no groups to show, so {file} is not written")
        return
    rows = []
    for group in shown:
        row = []
        # Spread over the group: the least similar ones are of interest too.
        spread = np.linspace(0, len(group.members) - 1, min(_SHEET_COLUMNS, len(group.members)))
        for member in (group.members[int(at)] for at in spread):
            name = member.path.rpartition("/")[2]
            line = name if group.kind == "exact" else f"{member.similarity:.3f} {name}"
            row.append(Cell(member.path, member.label or "", line))
        rows.append(row)
    save_picture(draw_sheet(rows), file)
    say(f"contact sheet: {file}")
