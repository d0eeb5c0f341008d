"""Complete JPEGs with an unusual end, and truncated JPEGs."""

from __future__ import annotations

from collections.abc import Iterator

import drawn
from corpus import Case

_END = b"\xff\xd9"
_VIDEO = b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(range(256)) * 4
_SAMSUNG = b"\0\0\x30\x0a\x10\0\0\0MotionPhoto_Data" + _VIDEO


def cases() -> Iterator[Case]:
    for kind, options in {
        "baseline": {},
        "progressive": {"progressive": True},
        "restart markers": {"restart_marker_blocks": 3},
    }.items():
        whole = drawn.encode(drawn.picture(), "JPEG", **options)
        data = whole.removesuffix(_END)
        for end, content in {
            "no end marker": data,
            "trailer without an end marker": data + b"\xff\x10 trailer",
            "trailer": whole + b"SEFH trailer SEFT",
            "video without an end marker": data + _VIDEO,
            "Samsung's trailer without an end marker": data + _SAMSUNG,
            "another picture without an end marker": data + whole,
            "zeros before the end marker": data + bytes(99) + _END,
        }.items():
            yield Case(f"{kind}, {end}.jpg", content, whole)
        for end, content in {
            "cut": data[:-90],
            "cut, end marker": data[:-90] + _END,
            "cut, trailer": data[:-90] + b"\xff\x10 trailer",
            "cut, video": data[:-90] + _VIDEO,
            "cut, Samsung's trailer": data[:-90] + _SAMSUNG,
            "cut, zeros": data[:-90] + bytes(999),
        }.items():
            yield Case(f"{kind}, {end}.jpg", content, status="truncated", error="truncated")
