"""What runs inside an isolated process: one image in, one row out, until the parent is gone.

python -m pomona.engines.isolated_main
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from typing import IO, Any

from pomona.encoder.blob import Encoder
from pomona.engines.isolation import end_with
from pomona.errors import PomonaError
from pomona.runtime import load_once, loads_so_far
from pomona.worker import featurize

__all__: list[str] = []


def _serve(orders: IO[bytes], replies: IO[bytes]) -> None:
    def reply(message: Any) -> None:
        pickle.dump(message, replies)
        replies.flush()

    try:
        blob, decode = pickle.load(orders)  # noqa: S301 - from our own parent
        encoder = Encoder.from_bytes(blob)
        runtime = load_once(encoder.fingerprint, lambda: encoder)
        reply(loads_so_far())
        while True:
            image = pickle.load(orders)  # noqa: S301 - likewise
            (row,) = featurize(iter([image]), runtime, decode)
            reply(row)
    except EOFError:
        return  # the parent has ended, or wants no more
    except PomonaError as error:
        reply(error)


def _main() -> None:
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is noise, not a reply
    _serve(sys.stdin.buffer, replies)


if __name__ == "__main__":
    _main()
