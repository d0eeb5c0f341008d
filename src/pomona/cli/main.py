"""The command line: parse, call, print. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import io
import logging
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from pomona._version import __version__
from pomona.cli.check import check
from pomona.cli.classify import classify
from pomona.cli.console import fail
from pomona.cli.duplicates import duplicates
from pomona.cli.encoder import encoder
from pomona.cli.export import export
from pomona.cli.extract import extract
from pomona.cli.inspect import inspect
from pomona.cli.look import look
from pomona.cli.models import models
from pomona.cli.parameters import in_options
from pomona.cli.project import project
from pomona.cli.report import report
from pomona.cli.search import search
from pomona.cli.sections import OrderedGroup
from pomona.cli.train import train
from pomona.errors import PomonaError, UsageError

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["app", "main"]

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=OrderedGroup, context_settings=_CONTEXT)
@click.version_option(__version__, message="pomona %(version)s")
def app() -> None:
    """Turn collections of images into tables of deep features."""


for command in (
    *(extract, look, inspect, check, search, duplicates, train, classify, project, report),
    *(export, models, encoder),
):
    app.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; the process ends with its exit code.

    0: done. 1: a run could not continue, or a check failed. 2: bad use, one line on stderr, nothing
    written. 130 and 143: stopped by Ctrl-C or SIGTERM; complete part files stay.
    """
    _open_streams()
    _log_to_stderr()
    with _signals():
        _run(arguments)


def _open_streams() -> None:
    """Replace closed streams, and escape characters that a stream cannot encode."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - for as long as we run
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def _signals() -> Iterator[None]:
    """Exit cleanly on SIGTERM, and restore the caller's handlers afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGPIPE)}
    signal.signal(signal.SIGTERM, _on_terminate)
    try:
        yield
    finally:
        sys.stdout.flush()
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(arguments: list[str] | None) -> NoReturn:
    try:
        code = app(arguments, "pomona", standalone_mode=False)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "pomona"
        said = re.sub(r"\.(?= \(|$)", "", error.format_message())  # a full stop of click's
        fail(2, f"{said} (see {where} --help)")
    except UsageError as error:
        fail(2, in_options(str(error)))
    except click.ClickException as error:
        fail(2, str(error))
    except PomonaError as error:
        fail(1, in_options(str(error)))
    except (KeyboardInterrupt, click.Abort):
        fail(130, "stopped")
    except OSError as error:
        fail(1, f"{error.filename or 'the system'}: {error.strerror or error}")
    sys.exit(code if isinstance(code, int) else 0)


class _InOptions(logging.Formatter):
    """Names options in what the library logs about its parameters."""

    def format(self, record: logging.LogRecord) -> str:
        return in_options(super().format(record))


class _CurrentStderr(logging.StreamHandler[Any]):
    """Writes to the current `sys.stderr`: the progress bar replaces it to show lines above."""

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, _: object) -> None:
        pass


def _log_to_stderr() -> None:
    """Show the log of Pomona; errors already contain what its libraries log."""
    handler = _CurrentStderr()
    handler.setFormatter(_InOptions("pomona: %(message)s"))
    log = logging.getLogger("pomona")
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    # Py4J also writes to the root's log, such as stack traces after Ctrl-C.
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.NullHandler())
    for silent in (root, logging.getLogger("py4j")):
        silent.setLevel(logging.CRITICAL)


def _on_terminate(_number: int, _frame: FrameType | None) -> Any:
    sys.exit(143)
