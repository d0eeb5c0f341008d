"""HTML of objects for notebooks; all text is escaped.

It sets no colours and no fonts, because notebooks have light and dark themes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

__all__ = ["html_card", "html_pairs", "html_table"]


def html_card(title: str, *parts: str) -> str:
    """Put a title over pieces of HTML.

    Args:
        title: plain text.
        parts: HTML, of the functions below.
    """
    return f"<div><p><b>{escape(title)}</b></p>{''.join(parts)}</div>"


def html_table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a table of plain text; None becomes an empty cell."""
    head = "".join(f"<th scope='col'>{escape(column)}</th>" for column in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{_text(value)}</td>' for value in row)}</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def html_pairs(title: str, pairs: Mapping[str, object]) -> str:
    """Return names and values, folded under a title."""
    rows = "".join(
        f"<tr><th scope='row'>{escape(key)}</th><td>{_text(value)}</td></tr>"
        for key, value in pairs.items()
    )
    return f"<details><summary>{escape(title)}</summary><table>{rows}</table></details>"


def _text(value: object) -> str:
    return "" if value is None else escape(str(value))
