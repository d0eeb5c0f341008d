"""The cause of a worker process's end: one image, or something that affects all images.

Both engines use this. An image whose process ends is computed again, alone. If that process ends
too, the image gets the status `crashed`. If many processes in a row end without a computed image,
the next one computes the canary, a picture drawn here. If that process ends too, no image is the
cause, and the run ends.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Hashable, Sequence

from pomona.errors import RunError

__all__ = ["ENDS_IN_A_ROW", "CrashPolicy", "canary_image"]

STRIKES = 2
"""Processes that may end over an image before the image counts as the cause."""

ENDS_IN_A_ROW = 8
"""Processes that may end without a computed image before the canary is computed."""


class CrashPolicy:
    """Counts how worker processes end. It has no lock of its own."""

    def __init__(self, starts_in_a_row: int = ENDS_IN_A_ROW) -> None:
        """Start to count.

        Args:
            starts_in_a_row: processes that may end without an image in progress, if no row is
                written in between.
        """
        self._limit = starts_in_a_row
        self._starts_in_a_row = 0
        self._ends_in_a_row = 0
        self._strikes: Counter[Hashable] = Counter()

    @property
    def needs_canary(self) -> bool:
        """Whether a process has to compute the canary before any other image."""
        return self._ends_in_a_row >= ENDS_IN_A_ROW

    def is_suspect(self, image: Hashable) -> bool:
        """Return whether a process has ended over this image, which is then computed alone."""
        return self._strikes[image] > 0

    def ended_over(self, images: Sequence[Hashable]) -> bool:
        """Count a process that ended with images in progress.

        Returns:
            Whether one image is the cause: it came alone, and has ended a process before.
        """
        self._ends_in_a_row += 1
        self._strikes.update(images)
        return len(images) == 1 and self._strikes[images[0]] >= STRIKES

    def ended_over_no_image(self, reason: str) -> None:
        """Count a process that ended while it started, or between images.

        Raises:
            RunError: there were too many.
        """
        self._starts_in_a_row += 1
        if self._starts_in_a_row >= self._limit:
            raise RunError(
                f"{self._starts_in_a_row} worker processes in a row ended, and no image is the "
                f"cause; the reason of the last one: {reason}"
            )

    def ended_over_canary(self, reason: str) -> RunError:
        """Return the error that ends the run: a process did not survive the canary."""
        return RunError(
            f"{self._ends_in_a_row + 1} worker processes in a row ended without a computed image, "
            f"the last one over a picture that Pomona drew: {reason}; check whether memory is "
            f"short or a library is broken"
        )

    def done(self) -> None:
        """Note that a process has computed an image, or the canary."""
        self._ends_in_a_row = 0

    def kept(self) -> None:
        """Note that rows were written to the table, or passed to its writer."""
        self._starts_in_a_row = 0


def canary_image() -> bytes:
    """Return a small JPEG that any working process can decode."""
    from PIL import Image

    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(file, "JPEG")
    return file.getvalue()
