"""Servers of tests, each in a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import BaseServer


@contextmanager
def running(server: BaseServer, poll_s: float = 0.5) -> Iterator[None]:
    """Answer requests in a thread, and close the server at the end."""
    thread = threading.Thread(target=server.serve_forever, args=(poll_s,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
