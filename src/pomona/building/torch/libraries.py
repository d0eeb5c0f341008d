"""PyTorch and the libraries on it, imported without a connection to their download servers."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from pomona.errors import EncoderError
from pomona.extras import check_extra

__all__ = ["import_offline"]

_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


def import_offline(name: str, path: Path, instead: str) -> Any:
    """Import a library of the extra `torch`, which then downloads and reports nothing.

    Args:
        name: of its module.
        path: the file or folder that needs it, for errors.
        instead: another way for the user, for errors.

    Raises:
        EncoderError: it is not installed.
    """
    what = f"{path} holds weights of PyTorch, and building from them needs torch"
    if name != "torch":
        what += f" and {name}"
    check_extra("torch", what, "torch", name, error=EncoderError, instead=f"; or {instead}")
    os.environ.update(_OFFLINE)  # their modules read these once, while they are imported
    try:
        return import_module(name)
    except (ImportError, OSError, RuntimeError) as error:
        raise EncoderError(f"{path} needs {name}, which cannot be imported: {error}") from error
