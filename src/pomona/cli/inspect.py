"""`pomona inspect`: the content of a feature table."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import asdict, astuple
from typing import TYPE_CHECKING

import click

from pomona.cli.console import AS_JSON, results_follow
from pomona.cli.paths import as_path
from pomona.cli.sections import SectionedCommand

if TYPE_CHECKING:
    from pomona.table.feature_table import FeatureTable

__all__ = ["inspect"]


@click.command(
    cls=SectionedCommand,
    sections={"Failed files": "--failed --csv", "Output": "--rows --missing --json"},
    short_help="Show what is in a table, and which files failed.",
    epilog="Example: pomona inspect features/ --failed --csv > failed.csv",
)
@click.argument("table", type=as_path)
@click.option(
    "--failed", is_flag=True, help="List all files without a vector, each with its reason."
)
@click.option(
    "--csv", "as_csv", is_flag=True, help="With --failed: print CSV with path, status and error."
)
@click.option(
    "--rows",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Number of rows to show.",
)
@click.option(
    "--missing/--no-missing",
    default=True,
    show_default=True,
    help="Count rows whose file no longer exists. This checks every file: slow on network disks.",
)
@AS_JSON
def inspect(
    table: str, rows: int, *, failed: bool, as_csv: bool, missing: bool, as_json: bool
) -> None:
    """Show what is in the feature table TABLE, and check its vectors.

    The exit code is 1 if a vector is missing, has a wrong length, contains NaN or infinity, or is
    all zero.
    """
    from pomona.analysis.inspection import inspect as run
    from pomona.cli.render import show_inspection
    from pomona.table.feature_table import FeatureTable

    if as_csv and not failed:
        raise click.UsageError("--csv prints failed files: add --failed")
    if as_csv and as_json:
        raise click.UsageError("--csv and --json are both output formats: give one of them")
    results_follow()
    where = FeatureTable.at(table)
    if failed:
        _show_failed(where, as_csv=as_csv, as_json=as_json)
        return
    found = run(where, rows, look_at_files=missing)
    if as_json:
        click.echo(json.dumps(found.to_json(), ensure_ascii=False))
    else:
        show_inspection(table, found)
    if not found.check.passed:
        sys.exit(1)


def _show_failed(table: FeatureTable, *, as_csv: bool, as_json: bool) -> None:
    """Print files without a vector while they are read: there may be millions."""
    from pomona.analysis.inspection import failed_files
    from pomona.cli.render import show_failures

    files = failed_files(table)
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        first = next(files, None)  # an error comes before the heading
        writer.writerow(["path", "status", "error"])
        if first is not None:
            writer.writerow(astuple(first))
        writer.writerows(map(astuple, files))
    elif as_json:
        click.echo(json.dumps([asdict(file) for file in files], ensure_ascii=False))
    else:
        show_failures(files, 0, str(table))
