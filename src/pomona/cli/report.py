"""`pomona report`: one page that shows a table."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pomona.cli.console import AS_JSON, results_follow
from pomona.cli.options import MAP, THRESHOLD
from pomona.cli.paths import as_file, as_path
from pomona.cli.progress import steps_bar
from pomona.cli.sections import SectionedCommand
from pomona.messages import count_of

__all__ = ["report"]


@click.command(
    cls=SectionedCommand,
    sections={
        "Content": "--points --map --threshold",
        "Output": "--output --json",
    },
    short_help="Write a page about a table: map, classes, suspected errors.",
    epilog="Example: pomona report features/ -o report.html",
)
@click.argument("table", type=as_path)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=as_file,
    default="report.html",
    show_default=True,
    help="The page to write.",
)
@click.option(
    "--points",
    type=click.IntRange(min=1, max=20_000),
    default=5_000,
    show_default=True,
    help="Maximum number of images on the map; from a larger table, an evenly spread sample.",
)
@MAP
@THRESHOLD
@AS_JSON
def report(
    *, table: str, output: Path, points: int, kind: str, threshold: float, as_json: bool
) -> None:
    """Write an HTML page that shows what is in the feature table TABLE.

    It has counts and failures, a map of the images, classes and how well they are separated,
    suspected wrong labels, duplicates, nearest neighbours and provenance. The page is one file that
    works offline. Its pictures come from the image files; an image that no longer exists has none.
    """
    from pomona.analysis.report.findings import ReportOptions
    from pomona.analysis.report.render import write_report

    options = ReportOptions(points=points, threshold=threshold, map=kind)
    with steps_bar() as step:
        found, pictures = write_report(table, output, options, step)
    size = output.stat().st_size
    # Files without a vector are listed already: do not count them as missing pictures.
    gone = len(pictures.missing - {failure.path for failure in found.failures})
    results_follow()
    if as_json:
        result = {
            "report": str(output),
            "bytes": size,
            "rows": found.rows,
            "statuses": dict(found.statuses),
            "compared": len(found.sample.paths),
            "mapped": len(found.mapped),
            "nearest_has_same_label": found.accuracy,
            "suspected_mislabels": len(found.suspects),
            "near_duplicate_groups": len(found.near),
            "exact_duplicate_groups": len(found.exact),
            "pictures_missing": gone,
            "seconds": {what: round(seconds, 3) for what, seconds in found.seconds.items()},
        }
        click.echo(json.dumps(result, ensure_ascii=False))
        return
    seconds = sum(found.seconds.values())
    click.echo(f"{output}: {count_of(found.rows, 'row')}, {size / 1e6:.1f} MB, in {seconds:.1f} s")
    if gone:
        click.echo(
            f"{count_of(gone, 'picture')} could not be read: the images were moved or deleted"
        )
