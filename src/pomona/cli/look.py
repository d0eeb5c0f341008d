"""`pomona look`: a page in the browser that shows images as a map."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Literal

import click

from pomona.cli.console import AS_JSON, say
from pomona.cli.options import MAP, WEIGHTS, warn_of_untrained
from pomona.cli.paths import as_label_rule, as_path
from pomona.cli.progress import steps_bar
from pomona.cli.sections import SectionedCommand

__all__ = ["look"]


@click.command(
    cls=SectionedCommand,
    sections={
        "A source of images": "--output --label --model --weights",
        "Page": "--encoder --map --port --no-browser --json",
    },
    short_help="Look at images in the browser, as a map of pictures.",
    epilog="Example: pomona look photos/",
)
@click.argument("source", type=as_path, metavar="SOURCE-or-TABLE")
@click.option(
    "-o",
    "--output",
    type=as_path,
    metavar="TABLE",
    help="The feature table to write for SOURCE.  [default: in Pomona's cache folder]",
)
@click.option(
    "--label",
    type=as_label_rule,
    metavar="RULE",
    help="Labels of the images: see 'pomona extract'.",
)
@click.option("--model", type=as_path, metavar="NETWORK", help="See 'pomona extract'.")
@WEIGHTS
@click.option(
    "--encoder",
    type=as_path,
    metavar="FILE",
    help="The encoder for SOURCE, or that made TABLE: one with a text tower finds images by words.",
)
@MAP
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Port of the page on this machine.  [default: any free port]",
)
@click.option("--no-browser", is_flag=True, help="Print the URL only.")
@AS_JSON
def look(
    *,
    source: str,
    output: str | None,
    label: str | None,
    model: str | None,
    weights: str | None,
    encoder: str | None,
    kind: Literal["tsne", "pca"],
    port: int,
    no_browser: bool,
    as_json: bool,
) -> None:
    """Open a page in the browser that shows images as a map, similar ones near each other.

    A SOURCE of images, such as a folder, becomes a feature table first, as by 'pomona extract'; the
    next time, only new and changed images are computed. Of a TABLE, the page shows the rows.

    The page is for this machine only: its URL contains a secret. Ctrl-C ends it.
    """
    from pomona.building.build import build_encoder
    from pomona.encoder.encoder import Encoder
    from pomona.encoder.names import DEFAULT_MODEL
    from pomona.looking import look as run

    if encoder is not None and (model or weights):
        raise click.UsageError("--encoder contains its network: leave --model and --weights out")
    warn_of_untrained(weights)

    def build() -> Encoder:
        return build_encoder(model or DEFAULT_MODEL, weights)

    with steps_bar() as step:
        page = run(
            source,
            output,
            encoder=build if model or weights else encoder,
            label=label,
            map=kind,
            port=port,
            browser=not no_browser,
            progress=step,
        )
    # Not `results_follow`: SIGPIPE would end the server if a browser closes a connection.
    result = {"url": page.url, "table": str(page.table)}
    click.echo(json.dumps(result) if as_json else page.url)
    if str(page.table) != source:
        say(f"the feature table is in {page.table}")
    say("Ctrl-C ends the page")
    with page, suppress(KeyboardInterrupt):
        page.wait()
