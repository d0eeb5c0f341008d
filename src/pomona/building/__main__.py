"""Builds an encoder, in a process of its own.

    python -m pomona.building   < request.json   > answer.json

A process of its own, because Keras takes its backend at import: a notebook that already uses Keras
on TensorFlow keeps it. The memory of the building goes with the process, and a file that makes a
parser crash takes down no more than that.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from pomona.building.settings import NetworkSettings
from pomona.errors import EncoderError

__all__ = ["answer"]


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Do what a request asks; the answer says how it went."""
    from pomona.building import files, keras_build

    settings = NetworkSettings.from_json(request.get("settings", {}))
    trust = request.get("trust", False)
    try:
        if request["do"] == "describe":
            if "file" in request:
                return files.describe(Path(request["file"]), trust=trust)
            return keras_build.describe(request["model"])
        if "file" in request:
            path, runtime = Path(request["file"]), request["runtime"]
            encoder = files.build(path, settings, trust=trust, runtime=runtime)
        else:
            encoder = keras_build.build(request["model"], request["weights"], settings)
        encoder.save(request["path"])
    except EncoderError as error:
        return {"error": str(error)}
    return {"fingerprint": encoder.fingerprint}


def _main() -> None:
    request = json.load(sys.stdin)
    # Keras and its download report on stdout: the answer must be alone there.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    json.dump(answer(request), out)
    out.close()


if __name__ == "__main__":
    _main()
