"""Asking a process of its own: a request in JSON on its input, an answer in JSON on its output.

    python -m pomona.building   < request.json   > answer.json

Keras, which takes its backend at import, NNCF, which holds gigabytes, and parsers of files from
elsewhere, which may crash: all of them stay out of the user's own process.
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
        request: what JSON can hold.
        purpose: what it is for, after "Pomona could not".

    Raises:
        EncoderError: it answered that it cannot be done.
        RunError: it ended without an answer.
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
    """Be that process. Whatever libraries print goes elsewhere: the answer is alone on the output.

    Args:
        answer: is given the request; what it says of an `EncoderError` is handed over.
    """
    request = json.load(sys.stdin)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    try:
        told = answer(request)
    except EncoderError as error:
        told = {"error": str(error)}
    json.dump(told, out)
    out.close()
