"""A separate process that answers a request: JSON on its input, JSON on its output.

    python -m pomona.building   < request.json   > answer.json

Keras chooses its backend at import, NNCF needs gigabytes, and parsers of untrusted files may crash.
None of them runs in the user's own process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

from pomona.errors import EncoderError, RunError

__all__ = ["ask", "reply"]

Request = dict[str, Any]


def ask(module: str, request: Request, purpose: str) -> dict[str, Any]:
    """Run a module that calls `reply`, and wait for its answer.

    Args:
        module: its name.
        request: a JSON value.
        purpose: the purpose, for an error that begins with "Pomona could not".

    Raises:
        EncoderError: the module answered with this error.
        RunError: the process ended without an answer.
    """
    done = subprocess.run(
        [sys.executable, "-P", "-m", module],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise RunError(f"Pomona could not {purpose}: {last[0]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    if "error" in answer:
        raise EncoderError(answer["error"])
    return answer


def reply(answer: Callable[[Request], dict[str, Any]]) -> None:
    """Run as the separate process. Output of libraries is redirected: stdout has only the answer.

    Args:
        answer: called with the request. An `EncoderError` that it raises is passed on.
    """
    request = json.load(sys.stdin)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    try:
        response = answer(request)
    except EncoderError as error:
        response = {"error": str(error)}
    json.dump(response, out)
    out.close()
