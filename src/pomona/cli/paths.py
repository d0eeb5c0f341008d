"""Paths on the command line: `~` is the home folder, even in quotes or after an `=`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

__all__ = ["as_file", "as_label_rule", "as_path", "unquoted_glob"]


def as_path(value: str) -> str:
    """Return a path, a URI or a name with a leading `~` or `~user` replaced.

    Raises:
        click.BadParameter: it is empty, as from an unset variable of the shell.
    """
    if not value:
        raise click.BadParameter("'' is not a path: expected the name of a file or folder")
    return _at_home(value)


def as_file(value: str | Path) -> Path:
    """Return the path of a file of this machine.

    Raises:
        click.BadParameter: it is empty, or looks like the next option, whose value is missing.
    """
    if str(value).startswith("-") and str(value) != "-":
        raise click.BadParameter(
            f"{str(value)!r} looks like an option: give a file before it, or "
            f"'./{value}' for a file of that name"
        )
    return Path(as_path(str(value)))


def as_label_rule(value: str) -> str:
    """Return a label rule with `~` replaced in the path of a `csv:` rule."""
    kind, colon, rest = value.partition(":")
    return f"{kind}{colon}{_at_home(rest)}" if kind == "csv" else value


def unquoted_glob(arguments: Sequence[str]) -> str | None:
    """Guess the glob that a shell has expanded into these arguments.

    Returns:
        The glob; None if the arguments are not files of the same depth.
    """
    paths = [Path(argument) for argument in arguments]
    if len(paths) < 2 or not all(path.exists() for path in paths):
        return None
    if len({len(path.parts) for path in paths}) > 1:
        return None
    *folders, names = (set(level) for level in zip(*(path.parts for path in paths), strict=True))
    endings = {Path(name).suffix for name in names}
    name = f"*{endings.pop()}" if len(endings) == 1 else "*"
    return str(Path(*(level.pop() if len(level) == 1 else "*" for level in folders), name))


def _at_home(path: str) -> str:
    return os.path.expanduser(path)  # noqa: PTH111 - a URI is no Path
