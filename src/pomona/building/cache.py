"""Encoders that this machine has built: by request, and by fingerprint.

encoders/<digest of a request>.encoder     the encoder that was built for the request
encoders/made-<fingerprint>.encoder        a link to it, for finding the encoder of a table
"""

from __future__ import annotations

import logging
import os
import re
from contextlib import suppress
from pathlib import Path

from pomona.encoder.encoder import Encoder
from pomona.errors import EncoderError
from pomona.io.location import cache_folder

__all__ = ["cached", "cached_by_fingerprint", "keep"]

_log = logging.getLogger(__name__)

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


def cached(name: str) -> Encoder | None:
    """Return the cached encoder with this name; None if it is missing or unreadable."""
    try:
        path = cache_folder("encoders") / name
        return Encoder.load(path) if path.is_file() else None
    except (OSError, EncoderError) as error:
        _log.warning("building again: %s", error)
        return None


def cached_by_fingerprint(fingerprint: str) -> Encoder | None:
    """Return the encoder with that fingerprint, if this machine has built it.

    Encoders in the cache without a link for their fingerprint are found by reading them.
    """
    if not _FINGERPRINT.fullmatch(fingerprint):
        return None  # a table from another source may contain anything
    with suppress(OSError):
        folder = cache_folder("encoders")
        link = folder / _link_name(fingerprint)
        others = (path for path in sorted(folder.glob("*.encoder")) if path != link)
        for path in filter(Path.is_file, (link, *others)):
            with suppress(EncoderError):
                found = Encoder.load(path)
                if found.fingerprint == fingerprint:
                    return found
    return None


def keep(encoder: Encoder, name: str | None = None) -> None:
    """Put an encoder into the cache if possible: service accounts may have no cache folder.

    Args:
        encoder: the encoder.
        name: name of its request; None if it was converted from another encoder.
    """
    try:
        folder = cache_folder("encoders")
        folder.mkdir(parents=True, exist_ok=True)
        link = folder / _link_name(encoder.fingerprint)
        if name is None:
            encoder.save(link)
            return
        encoder.save(folder / name)
        link.unlink(missing_ok=True)
        os.link(folder / name, link)
    except (OSError, EncoderError) as error:
        _log.info("cannot cache the encoder for the next time: %s", error)


def _link_name(fingerprint: str) -> str:
    return f"made-{fingerprint}.encoder"
