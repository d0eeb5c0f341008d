"""The label rule of a table, written down beside its part files, so that later runs follow it.

The file is hidden: readers of Parquet folders pass over it. It exists if a rule other than the
default was asked for.
"""

from __future__ import annotations

import json
from pathlib import Path

from pomona.errors import UsageError

__all__ = [
    "LABEL_RULE",
    "keep_label_rule",
    "needs_writing",
    "read_label_rule",
    "rule_written_down",
    "written_rule",
]

LABEL_RULE = ".pomona-label.json"
"""The name of the file."""

_DEFAULT = "parent"


def read_label_rule(folder: Path) -> str | None:
    """The rule that was written down with the table in a folder of this machine.

    Raises:
        UsageError: the file is damaged.
    """
    file = folder / LABEL_RULE
    try:
        return rule_written_down(file.read_text(encoding="utf-8"), file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(_damaged(file)) from error


def keep_label_rule(folder: Path, rule: str) -> None:
    """Write a rule down with the table in a folder of this machine."""
    if needs_writing(rule, read_label_rule(folder)):
        draft = folder / f"{LABEL_RULE}.partial"
        draft.write_text(written_rule(rule), encoding="utf-8")
        draft.replace(folder / LABEL_RULE)


def needs_writing(rule: str, recorded: str | None) -> bool:
    """Whether a rule that a run was given must be written down."""
    return rule != (recorded or _DEFAULT)


def written_rule(rule: str) -> str:
    """The text of the file."""
    return json.dumps({"label": rule})


def rule_written_down(text: str, file: object) -> str:
    """Read the text of the file.

    Raises:
        UsageError: it is something else.
    """
    try:
        rule = json.loads(text)["label"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UsageError(_damaged(file)) from error
    if not isinstance(rule, str):
        raise UsageError(_damaged(file))
    return rule


def _damaged(file: object) -> str:
    return f"{file} does not say how the table is labelled: say so with --label"
