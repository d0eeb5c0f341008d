"""What the client needs from each protocol of a model server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pomona.encoder.preprocessing import Pixels

__all__ = ["Busy", "Channel", "Dialect", "Refused"]


class Busy(Exception):  # noqa: N818 - news for a caller that repeats the request
    """The server did not answer, and may answer later.

    Attributes:
        after_s: the seconds that the server asked to wait, or None.
    """

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


class Refused(Exception):  # noqa: N818 - the caller knows what to do about it
    """The server answered that it does not compute this, with the reason in one line."""


class Channel(Protocol):
    """A connection to the server, for one thread."""

    @property
    def connections(self) -> int:
        """How often it has connected. After each time, another model may answer."""

    def compute(self, images: Pixels) -> NDArray[np.float32]:
        """Send one request, and return its vectors: (N, D) for (N, height, width, 3) uint8.

        Raises:
            Busy, Refused: there is no answer.
        """


class Dialect(Protocol):
    """A model on a server whose protocol is known."""

    @property
    def version(self) -> str | None:
        """The version of the model, which each request names; None if it has none."""

    @property
    def images_at_once(self) -> int | None:
        """How many images a request must have; None for any number."""

    def channel(self) -> Channel:
        """Return a new connection."""

    def look_again(self) -> None:
        """Ask the server which version of the model it has now.

        Raises:
            Busy, Refused: it does not say so.
        """
