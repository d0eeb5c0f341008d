"""What all commands share: the option `--json`, messages on stderr, and exit codes."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

import click

__all__ = ["AS_JSON", "NO_VECTOR", "fail", "results_follow", "say", "shown"]

NO_VECTOR = 3
"""The exit code of a run in which no image got a vector."""

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def results_follow() -> None:
    """From now on, end silently if the reader of stdout has gone, as other filters do.

    Call this only after the work: a worker that dies also breaks a pipe, and its parent has to
    survive that.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def say(text: str) -> None:
    """Print a line to stderr.

    A progress bar replaces `sys.stderr` to write lines above itself. click's own `err=True`
    bypasses that and would write into the bar.
    """
    click.echo(f"pomona: {text}", file=sys.stderr)


def shown(text: str) -> str:
    """Return text without control characters: a file name may contain terminal commands."""
    return "".join(c if c.isprintable() else "?" for c in text)


def fail(code: int, message: str) -> NoReturn:
    """End the program with one line on stderr."""
    say(" ".join(message.split()))
    sys.exit(code)
