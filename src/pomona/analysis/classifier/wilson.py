"""How sure a share is that was counted."""

from __future__ import annotations

__all__ = ["wilson"]


def wilson(right: int, of: int) -> tuple[float, float]:
    """95 % interval of a share, such as an accuracy (E. B. Wilson, J. Am. Stat. Assoc. 22, 1927).

    It keeps to 0 ... 1 and has a width also where every image is right. It takes the images as
    independent: frames of one film are not, and make it too narrow.
    """
    from scipy.stats import binomtest

    found = binomtest(right, of).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)
