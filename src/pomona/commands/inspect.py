"""`pomona inspect`: what is in a feature table."""

from __future__ import annotations

import json
import sys

import click

from pomona.commands.console import AS_JSON, results_follow

__all__ = ["inspect"]


@click.command(
    short_help="Show what is in a table, and which files failed.",
    epilog="Example: pomona inspect features/ --json",
)
@click.argument("table")
@click.option(
    "--rows",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="How many first rows to show.",
)
@click.option(
    "--missing/--no-missing",
    default=True,
    show_default=True,
    help="Count rows whose file no longer exists: a look at each, which takes long on slow disks.",
)
@AS_JSON
def inspect(table: str, rows: int, *, missing: bool, as_json: bool) -> None:
    """Show what is in the feature table TABLE, and check its vectors.

    The exit code is 1 if a vector has a wrong length, a NaN, or only zeros.
    """
    from pomona.analysis.inspection import inspect_table
    from pomona.presentation import show_inspection
    from pomona.table import FeatureTable

    results_follow()
    found = inspect_table(FeatureTable.at(table), rows, look_at_files=missing)
    if as_json:
        click.echo(json.dumps(found.to_json(), ensure_ascii=False))
    else:
        show_inspection(table, found)
    if not found.check.passed:
        sys.exit(1)
