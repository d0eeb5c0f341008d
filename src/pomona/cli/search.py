"""`pomona search`: the nearest images of an image or a text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pomona.cli.console import AS_JSON, results_follow, say
from pomona.cli.options import MAX_PIXELS
from pomona.cli.paths import as_file, as_path
from pomona.cli.progress import steps_bar
from pomona.cli.sections import SectionedCommand

if TYPE_CHECKING:
    from pomona.analysis.neighbours.search import SearchResult

__all__ = ["search"]


@click.command(
    cls=SectionedCommand,
    sections={
        "Search": "--text -k --index",
        "Texts, and images that are not in the table": "--encoder --model --weights --max-pixels",
        "Output": "--sheet --json",
    },
    short_help="Find the images that look most like an image, or fit a text.",
    epilog="Example: pomona search features/ photos/Kiwi/000.jpg -k 5 --sheet near.png",
)
@click.argument("table", type=as_path)
@click.argument("images", nargs=-1, type=as_path, metavar="[IMAGE]...")
@click.option(
    "--text",
    "texts",
    multiple=True,
    metavar="TEXT",
    help="Search with words, such as 'a red apple'; the encoder needs a text tower. Can be "
    "repeated.",
)
@click.option(
    "-k",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Number of images to find.",
)
@click.option(
    "--index",
    metavar="FILE",
    type=as_file,
    help="Search this index instead of the table. If it does not exist or is out of date, it is "
    "built.",
)
@click.option(
    "--sheet",
    metavar="FILE",
    type=as_file,
    help="Draw a contact sheet, .png, .jpg or .webp: a row for each IMAGE or TEXT with its "
    "results.",
)
@click.option(
    "--encoder",
    type=as_path,
    metavar="FILE",
    help="The encoder that made the table, as 'pomona encoder build' wrote it.",
)
@click.option(
    "--model",
    type=as_path,
    metavar="NETWORK",
    help="The network that made the table.  [default: from the table's provenance]",
)
@click.option(
    "--weights",
    type=as_path,
    metavar="WEIGHTS",
    help="Its weights: imagenet, a FILE, untrained:SEED.  [default: from the table's provenance]",
)
@MAX_PIXELS
@AS_JSON
def search(
    *,
    table: str,
    images: tuple[str, ...],
    texts: tuple[str, ...],
    k: int,
    index: Path | None,
    sheet: Path | None,
    encoder: str | None,
    model: str | None,
    weights: str | None,
    max_pixels: int,
    as_json: bool,
) -> None:
    """Find the images of the feature table TABLE that are nearest to each IMAGE or TEXT.

    An IMAGE is a row, any image file, or a list of images, such as near.txt. To name a row, give
    its path in the table, or the end of that path after a slash. The table's encoder computes the
    vector of a file or a text. The similarity is about 0 for two random images and 1 for equal
    ones; that of a text and an image is the cosine of their vectors.

    Without --index, the search compares every row of the table, so it is exact.
    """
    from pomona.analysis.figures.contact_sheet import check_picture
    from pomona.analysis.neighbours.search import search as run

    if not images and not texts:
        raise click.UsageError("nothing to search with: give an IMAGE or --text")
    if sheet:
        check_picture(sheet)
    with steps_bar() as step:
        found = run(
            table,
            images,
            k,
            text=texts,
            encoder=encoder,
            model=model,
            weights=weights,
            index=index,
            max_pixels=max_pixels,
            progress=step,
        )
    if sheet:
        _write_sheet(sheet, found)
    results_follow()
    if as_json:
        result = {
            "table": table,
            "method": found[0].method,
            "k": k,
            "results": [f.to_json() for f in found],
        }
        click.echo(json.dumps(result, ensure_ascii=False))
    else:
        _show(found)


def _show(found: Sequence[SearchResult]) -> None:
    from pomona.cli.render import show_matches

    show_matches(found)


def _write_sheet(file: Path, found: Sequence[SearchResult]) -> None:
    from pomona.analysis.figures.contact_sheet import Cell, draw_sheet, save_picture

    rows = []
    for result in found:
        query = result.query
        name = query.given if query.path is None else _name(query.path)
        row = [Cell(query.path, query.label or name, name if query.label else "", marked=True)]
        row += [
            Cell(match.path, match.label or _name(match.path), f"{match.similarity:.3f}")
            for match in result.matches
        ]
        rows.append(row)
    save_picture(draw_sheet(rows), file)
    say(f"contact sheet: {file}")


def _name(path: str) -> str:
    return path.rpartition("/")[2]
