"""Builds an encoder in a separate process, for `pomona.building.build_process`.

Keras chooses its backend at import, so a notebook that uses Keras on TensorFlow is not affected.
The memory is free when the process ends. If a file makes a parser crash, only this process ends.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from pomona.building.build_process import reply
from pomona.building.network_settings import NetworkSettings

__all__ = ["answer"]


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Carry out a request."""
    from pomona.building import efficientnet_lite, network_files
    from pomona.building.keras import applications
    from pomona.encoder.networks import find_card

    notes = _Notes()
    logging.getLogger("pomona").addHandler(notes)
    logging.getLogger("pomona").setLevel(logging.INFO)
    settings = NetworkSettings.from_json(request.get("settings", {}))
    trust = request.get("trust", False)
    if request["do"] == "describe":
        if "file" in request:
            return network_files.describe(Path(request["file"]), settings, trust=trust)
        if find_card(request["model"]).keras_class is None:
            return efficientnet_lite.describe()
        return applications.describe(request["model"])
    if "file" in request:
        path, runtime = Path(request["file"]), request["runtime"]
        encoder = network_files.build(path, settings, trust=trust, runtime=runtime)
    elif (card := find_card(request["model"])).keras_class is None:
        encoder = efficientnet_lite.build(card, request["weights"], settings)
    else:
        encoder = applications.build(request["model"], request["weights"], settings)
    encoder.save(request["path"])
    return {"fingerprint": encoder.fingerprint, "notes": notes.texts}


class _Notes(logging.Handler):
    """Keeps log records for the process that sent the request."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


if __name__ == "__main__":
    reply(answer)
