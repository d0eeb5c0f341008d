"""Whose fault it is if a worker process ends: one image's, or something that every image meets.

Both engines ask this. An image that ends its process is done once more, alone. If it ends that one
too, it gets the row `crashed`. If many processes in a row end with no image done, one of them does
the canary, a picture drawn here. If that ends its process as well, no image is the cause, and the
run ends.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Hashable, Sequence

from pomona.errors import RunError

__all__ = ["ENDS_IN_A_ROW", "CrashPolicy", "canary_image"]

STRIKES = 2
"""Processes that an image may end before it is called their cause."""

ENDS_IN_A_ROW = 8
"""Processes that may end with nothing done before the canary tells whether images are the cause."""


class CrashPolicy:
    """Counts how worker processes end. It has no lock of its own."""

    def __init__(self, starts_in_a_row: int = ENDS_IN_A_ROW) -> None:
        """Begin to count.

        Args:
            starts_in_a_row: processes that may end over no image, with no row kept in between.
        """
        self._limit = starts_in_a_row
        self._starts_in_a_row = 0
        self._ends_in_a_row = 0
        self._strikes: Counter[Hashable] = Counter()

    @property
    def needs_canary(self) -> bool:
        """Whether a process has to do the canary before any other image."""
        return self._ends_in_a_row >= ENDS_IN_A_ROW

    def is_suspect(self, image: Hashable) -> bool:
        """Whether a process has ended over this image: it is done alone from now on."""
        return self._strikes[image] > 0

    def ended_over(self, images: Sequence[Hashable]) -> bool:
        """Count a process that ended with images in hand.

        Returns:
            Whether the image, which came alone, is the cause.
        """
        self._ends_in_a_row += 1
        self._strikes.update(images)
        return self._strikes[images[0]] >= STRIKES

    def ended_over_no_image(self, reason: str) -> None:
        """Count a process that ended while it started, or between images.

        Raises:
            RunError: too many did.
        """
        self._starts_in_a_row += 1
        if self._starts_in_a_row >= self._limit:
            raise RunError(
                f"{self._starts_in_a_row} worker processes in a row ended, and no image is the "
                f"cause; the last one ended because {reason}"
            )

    def ended_over_canary(self, reason: str) -> RunError:
        """Return the error that ends the run: a process did not survive the canary."""
        return RunError(
            f"{self._ends_in_a_row + 1} worker processes in a row ended with no image done, the "
            f"last one over a picture that Pomona drew: {reason}; check whether memory is short "
            f"or a library is broken"
        )

    def done(self) -> None:
        """Take note that a process got an image done, or the canary."""
        self._ends_in_a_row = 0

    def kept(self) -> None:
        """Take note that rows reached the table, or whoever writes it."""
        self._starts_in_a_row = 0


def canary_image() -> bytes:
    """Return a small JPEG that any working process can decode."""
    from PIL import Image

    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(file, "JPEG")
    return file.getvalue()
