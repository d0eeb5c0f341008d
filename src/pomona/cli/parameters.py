"""The parameters of the library by the names that the command line gives them.

A message of the library names a parameter in backquotes, such as `max_pixels`. The user of the
command line typed `--max-pixels`, and has to read that name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import click

__all__ = ["in_options", "register"]

_NAME = re.compile(r"`([a-z_][a-z0-9_]*)`")
_shown: dict[str, str] = {}  # from a parameter's name to the option or argument


def register(parameters: Iterable[click.Parameter]) -> None:
    """Remember the parameters of a command.

    A name that is an option of one command and an argument of another, such as `model`, is shown
    as the option.
    """
    for parameter in parameters:
        if isinstance(parameter, click.Option):
            option = max(parameter.opts, key=len)
            _shown[option.lstrip("-").replace("-", "_")] = option
            _shown[parameter.name or ""] = option
        else:
            _shown.setdefault(parameter.name or "", (parameter.name or "").upper())


def in_options(message: str) -> str:
    """Replace each parameter in backquotes by its option or argument.

    Other words in backquotes stay: they are not Pomona's.
    """
    return _NAME.sub(lambda name: _shown.get(name[1], name[0]), message)
