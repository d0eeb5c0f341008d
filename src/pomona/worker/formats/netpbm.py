"""PBM, PGM, PPM and PFM: the fault of a file, in the terms of these formats."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

__all__ = ["fault"]

_COMMENT = rb"#[^\r\n]*[\r\n]?"
_TOKEN = re.compile(rb"(?:%s|[^\s#])+" % _COMMENT)
_SHOWN = 20  # characters of a token


def fault(content: bytes) -> str | None:
    """Find the first number in a header, or the first sample written as text, that is invalid.

    Returns:
        The fault; None if there is no fault, or the file ends before it.
    """
    kind = content[:2]
    tokens = _tokens(content)
    highest = 0
    for field in ("width", "height", "scale" if kind == b"Pf" else "maxval"):
        if field == "maxval" and kind in (b"P1", b"P4"):
            break
        if (token := next(tokens, None)) is None:
            return None
        highest = _number(token)
        limit = 65535 if field == "maxval" else 2**31 - 1
        expected = f"expected a whole number from 1 to {limit}"
        is_valid = 0 < highest <= limit
        if field == "scale":
            expected, is_valid = "expected a finite number other than 0", _is_scale(token)
        if not is_valid:
            return f"the {field} is {_shown(token)}, {expected}"
    return _sample_fault(kind, tokens, highest) if kind in (b"P1", b"P2", b"P3") else None


def _sample_fault(kind: bytes, tokens: Iterator[bytes], highest: int) -> str | None:
    if kind == b"P1":  # its samples need no space between them
        highest = 1
        tokens = (b"%c" % byte for token in tokens for byte in token)
    for token in tokens:
        if not 0 <= _number(token) <= highest:
            return f"a sample is {_shown(token)}, expected a whole number from 0 to {highest}"
    return None


def _tokens(content: bytes) -> Iterator[bytes]:
    for found in _TOKEN.finditer(content, 2):
        if token := re.sub(_COMMENT, b"", found[0]):
            yield token


def _number(token: bytes) -> int:
    """Return the number of a token, or -1."""
    return int(token) if re.fullmatch(rb"\+?[0-9]{1,10}", token) else -1


def _is_scale(token: bytes) -> bool:
    try:
        scale = float(token)
    except ValueError:
        return False
    return scale != 0 and math.isfinite(scale)


def _shown(token: bytes) -> str:
    return repr(token[:_SHOWN])[1:] + ("..." if len(token) > _SHOWN else "")
