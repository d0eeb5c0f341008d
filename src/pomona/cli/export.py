"""`pomona export`: a table's vectors in the files or the database of another program."""

from __future__ import annotations

import json

import click

from pomona.cli.console import AS_JSON, results_follow, say
from pomona.cli.paths import as_path
from pomona.cli.progress import steps_bar
from pomona.cli.sections import SectionedCommand
from pomona.messages import count_of

__all__ = ["export"]


@click.command(
    cls=SectionedCommand,
    sections={
        "Target": "--to --name",
        "Vectors": "--float16 --normalize",
        "Rows of an earlier export": "--overwrite --prune",
        "Output": "--json",
    },
    short_help="Write vectors to files and databases of other programs.",
    epilog="Example: pomona export features/ --to npy:vectors",
)
@click.argument("table", type=as_path)
@click.option(
    "--to",
    metavar="TARGET",
    required=True,
    help="npy:FOLDER (NumPy), csv:FILE, huggingface:FOLDER, duckdb:FILE, lance:FOLDER, "
    "postgresql://USER@HOST/DATABASE, qdrant:URL, chroma:FOLDER or milvus:URL.",
)
@click.option(
    "--name",
    metavar="NAME",
    help="Name of the table in a database.  [default: that of TABLE's folder]",
)
@click.option("--float16", is_flag=True, help="Send 16-bit floats, if the target has them.")
@click.option("--normalize", is_flag=True, help="Scale each vector to length 1 (L2).")
@click.option(
    "--overwrite", is_flag=True, help="Replace rows of another encoder, or in another form."
)
@click.option(
    "--prune",
    is_flag=True,
    help="Delete rows of a database whose images TABLE no longer has, or without a vector.",
)
@AS_JSON
def export(
    *,
    table: str,
    to: str,
    name: str | None,
    float16: bool,
    normalize: bool,
    overwrite: bool,
    prune: bool,
    as_json: bool,
) -> None:
    """Write the vectors of the feature table TABLE, with paths and labels, to TARGET.

    Rows without a vector stay behind. A second export of the same table sends only what has
    changed.
    """
    from pomona.exports.export import export as run

    with steps_bar() as step:
        made = run(
            table,
            to,
            name=name,
            float16=float16,
            normalize=normalize,
            overwrite=overwrite,
            prune=prune,
            progress=step,
        )
    if made.failed:
        say(f"note: skipped {count_of(made.failed, 'image')} without a vector")
    if made.others:
        say(
            f"note: {made.target} has {count_of(made.others, 'row')} that {table} does not have "
            "with a vector (--prune deletes them)"
        )
    results_follow()
    if as_json:
        click.echo(json.dumps(made.to_json(), ensure_ascii=False))
    else:
        deleted = f", {made.deleted:,} deleted" if made.deleted else ""
        sent = count_of(made.sent, "row")
        click.echo(f"{made.target}: {sent} sent, {made.unchanged:,} unchanged{deleted}")
