"""Model name and weights -> encoder, built once and then taken from the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pomona.building.seeded import parse_seed
from pomona.encoder.blob import LAYOUT_VERSION, Encoder, canonical_digest
from pomona.encoder.cards import DEFAULT_MODEL, find_card
from pomona.errors import EncoderError, RunError

__all__ = ["build_encoder", "cache_folder", "describe_network"]

_log = logging.getLogger(__name__)

_BUILDER_REVISION = 2
"""Raised when the builder changes what it builds from the same input, so that caches renew."""


def build_encoder(model: str = DEFAULT_MODEL, weights: str = "imagenet") -> Encoder:
    """Return the encoder for a network and weights, from the cache where it was built before.

    Args:
        model: a network's name, as `pomona models` lists them.
        weights: `imagenet` (downloaded by Keras the first time), a Keras weights file with or
            without its classification layer, or `untrained:SEED`, whose features mean little.

    Raises:
        EncoderError: unknown model, weights that cannot be had, read or fitted; the message says
            which layer.
    """
    find_card(model)
    cached = cache_folder() / f"{_cache_key(model, weights)}.encoder"
    if cached.is_file():
        try:
            return Encoder.load(cached)
        except EncoderError as error:
            _log.warning("building again: %s", error)
    _log.info("building %s with weights %s (the first time only)", model, weights)
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        _ask_keras({"do": "build", "model": model, "weights": weights, "path": str(cached)})
        return Encoder.load(cached)
    except OSError:
        return _build_uncached(model, weights)


def describe_network(model: str) -> dict[str, Any]:
    """Layers, shapes and parameter counts of a network, as Keras' `summary` gives them.

    Raises:
        EncoderError: unknown model.
    """
    find_card(model)
    return _ask_keras({"do": "describe", "model": model})


def cache_folder() -> Path:
    """Where built encoders are kept: `$POMONA_CACHE`, else `pomona` in the user's cache folder."""
    if given := os.environ.get("POMONA_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pomona" / "encoders"


def _build_uncached(model: str, weights: str) -> Encoder:
    """For users without a writable cache folder, such as service accounts."""
    with tempfile.TemporaryDirectory(prefix="pomona-") as folder:
        path = Path(folder, "built.encoder")
        _ask_keras({"do": "build", "model": model, "weights": weights, "path": str(path)})
        return Encoder.load(path)


def _cache_key(model: str, weights: str) -> str:
    return canonical_digest(
        {
            "model": model,
            "weights": _weights_identity(weights),
            "builder": _BUILDER_REVISION,
            "layout": LAYOUT_VERSION,
            "keras": version("keras"),
            "openvino": version("openvino"),
        }
    )


def _weights_identity(weights: str) -> str:
    if weights == "imagenet":
        return weights
    if weights.startswith("untrained:"):
        return f"untrained:{parse_seed(weights)}"
    try:
        with Path(weights).open("rb") as file:
            # The name is kept in the table's provenance, so it is part of what was built.
            return f"{Path(weights).name} {hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise EncoderError(
            f"cannot read weights {weights!r} ({error.strerror or error}): give 'imagenet', "
            "a Keras weights file, or 'untrained:SEED'"
        ) from error


def _ask_keras(request: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pomona.building.keras_build"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise RunError(f"Keras could not {request['do']} {request['model']}: {last[0]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    if "error" in answer:
        raise EncoderError(answer["error"])
    return answer
