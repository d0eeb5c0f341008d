"""HTML from Python values: all text is escaped here, and nowhere else is any put together."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from typing import Any

__all__ = ["Markup", "data_script", "join", "table", "tag"]


_SHORT = 12  # rows of a table that needs no scrolling


class Markup(str):
    """Text that is HTML already; any other text is escaped where it becomes part of it."""

    __slots__ = ()


def tag(name: str, /, *content: str, **attributes: str | int | None) -> Markup:
    """An element. `class_` and `for_` are spelt so for Python's sake, `_` stands for `-`."""
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in {"img", "input", "meta"}:
        return Markup(f"<{name}{told}>")
    return Markup(f"<{name}{told}>{join(content)}</{name}>")


def join(content: Iterable[str]) -> Markup:
    """Pieces one after the other: text is escaped, `Markup` is not."""
    return Markup("".join(p if isinstance(p, Markup) else _escaped(p) for p in content))


def table(caption: str, head: Iterable[str], rows: Iterable[Iterable[str]]) -> Markup:
    """A table whose first column names its rows."""
    columns = join(tag("th", name, scope="col") for name in head)
    body = []
    for row in rows:
        first, *rest = row
        body.append(tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in rest)))
    long = len(body) > _SHORT
    return tag(
        "div",
        tag(
            "table",
            tag("caption", caption, class_="quiet"),
            tag("thead", tag("tr", columns)),
            tag("tbody", *body),
        ),
        class_="scroll",
        # What scrolls must be within reach of the keyboard.
        tabindex=0 if long else None,
        role="region" if long else None,
        aria_label=caption if long else None,
    )


def data_script(name: str, value: Any) -> Markup:
    """Data for the page's script: JSON in which no tag can end, whatever the texts are."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return tag("script", Markup(_valid(text)), type="application/json", id=name)


def _escaped(text: str) -> str:
    return html.escape(_valid(text))


def _valid(text: str) -> str:
    """What HTML may hold: no half characters, no control characters but line ends."""
    text = text.encode("utf-8", "replace").decode()
    return "".join(c if c >= " " or c in "\n\t" else "\ufffd" for c in text)
