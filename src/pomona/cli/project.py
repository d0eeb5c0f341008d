"""`pomona project`: PCA of a table's vectors, as a new table."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pomona.cli.console import AS_JSON, results_follow, say
from pomona.cli.paths import as_file, as_path
from pomona.cli.progress import steps_bar
from pomona.cli.sections import SectionedCommand

__all__ = ["project"]


@click.command(
    cls=SectionedCommand,
    sections={
        "Projection": "-k --master",
        "Output": "--output --overwrite --plot --json",
    },
    short_help="Shorten vectors by PCA, into a new table.",
    epilog="Example: pomona project features/ -k 50 -o small/ --plot pca.png",
)
@click.argument("table", type=as_path)
@click.option(
    "-k",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Number of components to keep: the length of the new vectors.",
)
@click.option(
    "-o",
    "--output",
    "target",
    metavar="TABLE",
    type=as_path,
    help="Where to write the new table.  [default: TABLE-pcaK]",
)
@click.option(
    "--plot",
    metavar="FILE",
    type=as_file,
    help="Plot the share of the variance by component, and a map by label: PNG, SVG or PDF.",
)
@click.option(
    "--master",
    metavar="URL",
    help="Compute with Spark ML on this master: local[4], spark://host:7077, yarn.",
)
@click.option("--overwrite", is_flag=True, help="Replace the new table if it exists.")
@AS_JSON
def project(
    *,
    table: str,
    k: int,
    target: str | None,
    plot: Path | None,
    master: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Shorten the vectors of the feature table TABLE by PCA, into a new table.

    Principal component analysis finds the directions in which the vectors differ most. The output
    shows the share of the variance in each component. The new table has the same rows and its own
    fingerprint: you can compare its vectors with each other, but not with the encoder's.
    """
    from pomona.analysis.figures.style import check_plot, save_figure
    from pomona.analysis.projection import project as run
    from pomona.cli.render import show_projection
    from pomona.table.feature_table import FeatureTable

    check_plot(plot)
    target = target or f"{table.rstrip('/')}-pca{k}"
    if master:
        from pomona.spark.pca import project_on_spark

        made = project_on_spark(table, target, k, overwrite=overwrite, master=master)
    else:
        source = FeatureTable.at(table)
        with steps_bar() as step:
            made = run(source, FeatureTable.at(target), k, overwrite=overwrite, progress=step)
    if plot:
        from pomona.analysis.figures.pca import draw_projection

        save_figure(draw_projection(made), plot)
        say(f"plot: {plot}")
    results_follow()
    if as_json:
        click.echo(json.dumps(made.to_json()))
    else:
        show_projection(made)
