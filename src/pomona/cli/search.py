"""`pomona search`: the nearest images of an image."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pomona.cli.console import AS_JSON, results_follow, say
from pomona.cli.options import MAX_PIXELS
from pomona.cli.paths import as_file, as_path
from pomona.cli.sections import SectionedCommand
from pomona.cli.steps import steps_bar
from pomona.plural import count_of

if TYPE_CHECKING:
    from pomona.analysis.neighbours.faiss_index import NearestIndex
    from pomona.analysis.neighbours.search import Query, SearchResult
    from pomona.analysis.progress import Step
    from pomona.analysis.vectors import Vectors
    from pomona.table.feature_table import FeatureTable

__all__ = ["search"]


@click.command(
    cls=SectionedCommand,
    sections={
        "Search": "-k --index",
        "Images that are not in the table": "--encoder --model --weights --max-pixels",
        "Output": "--sheet --json",
    },
    short_help="Find the images that look most like an image.",
    epilog="Example: pomona search features/ photos/Kiwi/000.jpg -k 5 --sheet near.png",
)
@click.argument("table", type=as_path)
@click.argument("images", nargs=-1, required=True, type=as_path, metavar="IMAGE...")
@click.option(
    "-k", type=click.IntRange(min=1), default=10, show_default=True, help="How many to find."
)
@click.option(
    "--index",
    metavar="FILE",
    type=as_file,
    help="Search this index in place of the table. It is built where it is missing.",
)
@click.option(
    "--sheet",
    metavar="FILE",
    type=as_file,
    help="Write a contact sheet, .png, .jpg or .webp: a row for each IMAGE with what was found.",
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
    help="The network that made the table.  [default: as the table says]",
)
@click.option(
    "--weights",
    type=as_path,
    metavar="WEIGHTS",
    help="Its weights: imagenet, drawn, a FILE, untrained:SEED.  [default: as the table says]",
)
@MAX_PIXELS
@AS_JSON
def search(
    *,
    table: str,
    images: tuple[str, ...],
    k: int,
    index: Path | None,
    sheet: Path | None,
    encoder: str | None,
    model: str | None,
    weights: str | None,
    max_pixels: int,
    as_json: bool,
) -> None:
    """Find the images of the feature table TABLE that are nearest to each IMAGE.

    An IMAGE is a row, by its path as the table has it, or by the end of that path from a slash on;
    or any image file, which the table's own encoder then encodes. Near means a large cosine of the
    two vectors: 1 is the same.

    Without --index the whole table is read and each row compared: exact.
    """
    from pomona.analysis.figures.contact_sheet import check_picture
    from pomona.analysis.neighbours.faiss_index import check_faiss
    from pomona.analysis.neighbours.search import find_queries
    from pomona.analysis.neighbours.search import search as run
    from pomona.analysis.table_encoder import encoder_of_table
    from pomona.table.feature_table import FeatureTable

    if sheet:
        check_picture(sheet)
    if index:
        check_faiss()
    where = FeatureTable.at(table)

    encoder_for = partial(encoder_of_table, encoder=encoder, model=model, weights=weights)

    with steps_bar() as step:
        if index:
            find = partial(
                find_queries,
                images=images,
                encoder_for=encoder_for,
                step=step,
                max_pixels=max_pixels,
            )
            found, method = _with_index(index, where, find, k, step)
        else:
            found = run(where, images, encoder_for, k, step, max_pixels=max_pixels)
            method = "exact"
    if sheet:
        _write_sheet(sheet, found)
    results_follow()
    if as_json:
        told = {"table": table, "method": method, "k": k, "results": [f.to_json() for f in found]}
        click.echo(json.dumps(told, ensure_ascii=False))
    else:
        _show(found)


def _with_index(
    file: Path,
    table: FeatureTable,
    find: Callable[[Vectors], Sequence[Query]],
    k: int,
    step: Step,
) -> tuple[list[SearchResult], str]:
    import numpy as np

    from pomona.analysis.neighbours.cosine import unit
    from pomona.analysis.neighbours.search import matches_of
    from pomona.analysis.vectors import open_vectors

    vectors = open_vectors(table)
    # First of all: an index is not built for an image that is not there.
    queries = find(vectors)
    index = _open_index(file, table, step)
    matrix = unit(np.stack([query.vector for query in queries]))
    itself = [query.path if query.is_row else None for query in queries]
    return matches_of(queries, index.search(matrix, k, itself)), index.about.kind


def _open_index(file: Path, table: FeatureTable, step: Step) -> NearestIndex:
    from pomona.analysis.neighbours.faiss_index import NearestIndex, table_state
    from pomona.analysis.vectors import open_vectors
    from pomona.table.feature_table import check_output

    if file.exists():
        index = NearestIndex.load(file)
        if index.about.table_state == table_state(table):
            say(_told(file, index))
            return index
        if index.about.fingerprint != table.provenance()["fingerprint"]:
            from pomona.errors import UsageError

            raise UsageError(
                f"{file} is the index of a table of another encoder: give another FILE, or remove "
                "it"
            )
        say(f"{file}: the table has changed since it was built: building it again")
    check_output(file)
    index = NearestIndex.build(open_vectors(table), step)
    index.save(file)
    say(_told(file, index))
    return index


def _told(file: Path, index: NearestIndex) -> str:
    about = index.about
    if about.kind == "flat":
        return f"{file}: flat index of {count_of(about.rows, 'row')}, exact"
    return (
        f"{file}: IVF index of {count_of(about.rows, 'row')}, looks into {about.probes:,} of "
        f"{count_of(about.cells, 'cell')}; finds {about.recall:.1%} of the exact 10 nearest, "
        f"measured on {count_of(about.measured_rows, 'row')}"
    )


def _show(found: Sequence[SearchResult]) -> None:
    from pomona.cli.render import show_matches

    show_matches(found)


def _write_sheet(file: Path, found: Sequence[SearchResult]) -> None:
    from pomona.analysis.figures.contact_sheet import Cell, draw_sheet, save_picture

    rows = []
    for result in found:
        query = result.query
        name = _name(query.path)
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
