"""The label rule of a table, stored next to its part files, so that later runs follow it.

The file is hidden, so readers of Parquet folders skip it. It exists if a run was given a rule other
than the default.
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
    """Return the rule that is stored with a table; None if there is none.

    Raises:
        UsageError: the file is damaged or cannot be read.
    """
    file = f"{store}/{_LABEL_RULE}"
    try:
        if _LABEL_RULE not in store.entries():
            return None
        rule = json.loads(store.read(_LABEL_RULE))["label"]
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UsageError(_damaged(file)) from error
    if not isinstance(rule, str):
        raise UsageError(_damaged(file))
    return rule


def keep_label_rule(store: Store, rule: str) -> None:
    """Store a rule with a table."""
    if needs_writing(rule, read_label_rule(store)):
        store.write(_LABEL_RULE, json.dumps({"label": rule}).encode())


def needs_writing(rule: str, recorded: str | None) -> bool:
    """Return whether the rule of a run must be stored."""
    return rule != (recorded or _DEFAULT)


def _damaged(file: object) -> str:
    return f"{file} does not contain a label rule: give one as `label`"
