"""The confidence interval of a share."""

from __future__ import annotations

__all__ = ["wilson"]


def wilson(right: int, of: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (E. B. Wilson, J. Am. Stat. Assoc. 22, 1927).

    It lies within 0 to 1, and its width is not zero even if all images are right. It assumes that
    images are independent: for frames of one film it is too narrow.

    Args:
        right: number of right predictions.
        of: number of predictions.
    """
    from scipy.stats import binomtest

    found = binomtest(right, of).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)
