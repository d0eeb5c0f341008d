"""`pomona check`: what may be wrong with a collection of images."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pomona.cli.console import AS_JSON, results_follow
from pomona.cli.options import THRESHOLD
from pomona.cli.paths import as_file, as_path
from pomona.cli.progress import steps_bar
from pomona.cli.sections import SectionedCommand

__all__ = ["check"]


@click.command(
    cls=SectionedCommand,
    sections={"Comparison": "--split --threshold", "Output": "--output --json"},
    short_help="Find broken files, duplicates, leaks, wrong labels and outliers.",
    epilog="Example: pomona check features/ --split Training/Testing -o checked/",
)
@click.argument("table", type=as_path)
@click.option(
    "--split",
    metavar="TRAIN/TEST",
    help="Names of the folders of training and test images: also list images that are in both.",
)
@THRESHOLD
@click.option(
    "-o",
    "--output",
    metavar="FOLDER",
    type=as_file,
    help="Write check.html, a page with pictures, and a CSV file for each list into this folder.",
)
@AS_JSON
def check(
    *, table: str, split: str | None, threshold: float, output: Path | None, as_json: bool
) -> None:
    """Find what may be wrong with the images of the feature table TABLE.

    Each question has a list, the clearest rows first: files without a vector, exact and near
    duplicates, training images that are also test images, images that are nearer to another class
    than to their own, outliers, classes that look alike, and dark, bright, blurred, very long and
    tiny images. The command only lists; it changes nothing.
    """
    from pomona.analysis.check.check import check as run
    from pomona.analysis.check.page import check_folder
    from pomona.cli.render import show_checks

    if output:
        check_folder(output)
    with steps_bar() as step:
        found = run(table, split=split, threshold=threshold, progress=step)
        page = found.write(output, step) if output else None
    results_follow()
    if as_json:
        click.echo(json.dumps(found.to_json(), ensure_ascii=False))
    else:
        show_checks(found)
        if page:
            click.echo(f"page: {page}")
