"""Parts of messages: counts (`1 image`, `1,234 images`), and reasons in one line."""

from __future__ import annotations

__all__ = ["count_of", "noun_for", "one_line"]


def count_of(number: int, singular: str, plural: str | None = None) -> str:
    """Return a number with the noun that it counts, in its singular or its plural.

    Args:
        number: how many there are.
        singular: the noun for one: `image`, `row without a vector`.
        plural: the noun for all other numbers; by default the singular with an `s`.
    """
    return f"{number:,} {noun_for(number, singular, plural)}"


def noun_for(number: int, singular: str, plural: str | None = None) -> str:
    """Return the noun of such a count alone, for a place that shows the number apart."""
    return singular if number == 1 else plural or singular + "s"


def one_line(error: object, longest: int = 200) -> str:
    """Return the text of an error in one line, cut to a number of characters."""
    return " ".join(str(error).split())[:longest]
