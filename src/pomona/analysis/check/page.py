"""The files of `pomona check`: a page with pictures, and a CSV for each question."""

from __future__ import annotations

import datetime as dt
import os
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pomona.analysis.report.pictures import read_pictures
from pomona.analysis.report.render import as_html, environment, style_of
from pomona.errors import UsageError
from pomona.extras import check_extra
from pomona.io.location import written_whole
from pomona.progress import Progress, no_progress
from pomona.table.feature_table import check_output

if TYPE_CHECKING:
    from pomona.analysis.check.check import Checks
    from pomona.analysis.check.check_list import CheckList

__all__ = ["PAGE", "check_folder", "write_checks"]

PAGE = "check.html"
_ROWS, _GROUPS, _OF_GROUP = 40, 20, 12  # that the page shows of a list
_PICTURE_BYTES = 15_000_000


def check_folder(folder: str | os.PathLike[str]) -> None:
    """Check before the work that the files can be written.

    Raises:
        UsageError: they cannot, or Jinja2 is not installed.
    """
    check_extra("analysis", "a page needs Jinja2", "jinja2")
    folder = Path(folder)
    check_output(folder / PAGE if folder.is_dir() else folder)


def write_checks(
    checks: Checks, folder: str | os.PathLike[str], progress: Progress = no_progress
) -> Path:
    """Write `check.html`, and `NAME.csv` for each list; existing files are replaced one by one.

    Args:
        checks: the result of `pomona.check`.
        folder: a new or existing folder.
        progress: called with the progress.

    Returns:
        The path of the page.

    Raises:
        UsageError: a file cannot be written, or Jinja2 is not installed.
    """
    check_folder(folder)
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    for each in checks:
        file = folder / f"{each.name}.csv"
        with written_whole(file, UsageError) as draft, draft.open("wb") as opened:
            each.write_csv(opened)
    shown = {each.name: _shown(each) for each in checks}
    paths = [
        row["path"] for rows in shown.values() for group in rows for row in group if "path" in row
    ]
    pages = environment()
    text = pages.get_template("check.html").render(
        checks=checks,
        shown=shown,
        pictures=read_pictures(paths, _PICTURE_BYTES, progress),
        now=dt.datetime.now(dt.UTC),
        style=style_of(pages),
    )
    with written_whole(folder / PAGE, UsageError) as draft:
        draft.write_text(as_html(text), encoding="utf-8")
    return folder / PAGE


def _shown(each: CheckList) -> list[list[dict[str, Any]]]:
    """Return the rows that the page shows: by group, or one group of all."""
    if "group" not in each.rows.column_names:
        return [each.rows.slice(0, _ROWS).to_pylist()]
    rows = each.rows.slice(0, 1000 * _GROUPS).to_pylist()
    groups = [list(some) for _, some in groupby(rows, key=lambda row: (row["kind"], row["group"]))]
    return [group[:_OF_GROUP] for group in groups[:_GROUPS]]
