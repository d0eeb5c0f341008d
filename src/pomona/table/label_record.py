"""The label rule of a table, written down beside its part files, so that later runs follow it.

The file is hidden: readers of Parquet folders pass over it. It exists if a rule other than the
default was asked for.
"""

from __future__ import annotations

import json

from pomona.errors import UsageError
from pomona.table.store import Store

__all__ = ["keep_label_rule", "needs_writing", "read_label_rule"]

_LABEL_RULE = ".pomona-label.json"
"""The name of the file."""

_DEFAULT = "parent"


def read_label_rule(store: Store) -> str | None:
    """Return the rule that was written down with a table, if any.

    Raises:
        UsageError: the file is damaged.
    """
    file = f"{store}/{_LABEL_RULE}"
    try:
        if _LABEL_RULE not in store.entries():
            return None
        rule = json.loads(store.read(_LABEL_RULE))["label"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UsageError(_damaged(file)) from error
    if not isinstance(rule, str):
        raise UsageError(_damaged(file))
    return rule


def keep_label_rule(store: Store, rule: str) -> None:
    """Write a rule down with a table."""
    if needs_writing(rule, read_label_rule(store)):
        store.write(_LABEL_RULE, json.dumps({"label": rule}).encode())


def needs_writing(rule: str, recorded: str | None) -> bool:
    """Whether a rule that a run was given must be written down."""
    return rule != (recorded or _DEFAULT)


def _damaged(file: object) -> str:
    return f"{file} does not say how the table is labelled: say so with `label`"
