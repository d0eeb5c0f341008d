"""Temporary signal handlers, in addition to those of PySpark."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = ["delayed_signals", "signal_handlers"]


@contextmanager
def signal_handlers(handlers: Mapping[signal.Signals, Callable[..., Any]]) -> Iterator[None]:
    """Set signal handlers, and restore the former ones on exit.

    This does nothing outside the main thread, which alone receives signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


@contextmanager
def delayed_signals() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM until the exit."""
    came: list[int] = []

    def remember(number: int, _frame: object) -> None:
        came.append(number)

    try:
        with signal_handlers({signal.SIGINT: remember, signal.SIGTERM: remember}):
            yield
    finally:
        if came:
            signal.raise_signal(came[0])
