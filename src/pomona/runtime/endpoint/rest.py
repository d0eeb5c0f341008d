"""A model behind a REST API: what the two protocols share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from pomona.runtime.endpoint.http import HttpConnection

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pomona.encoder.preprocessing import Pixels

__all__ = ["RestModel"]


class RestModel(ABC):
    """A model at an address.

    Attributes:
        version: the version of the model, which each request names; None if it has none.
        images_at_once: how many images a request must have; None for any number.
    """

    protocol: str

    def __init__(self, base: str, name: str, version: str | None, timeout_s: float) -> None:
        """Ask the server about the model.

        Args:
            base: the address before the protocol's paths, such as `http://host:8000`.
            name: the name of the model.
            version: the version to use; None for the newest.
            timeout_s: seconds to wait for an answer.

        Raises:
            Busy, Refused: the server does not say what it has.
        """
        self.version = version
        self.images_at_once: int | None = None
        self._base = base
        self._timeout_s = timeout_s
        self._asked_version = version
        self._named = f"/{self.protocol}/models/{name}"
        self.look_again()

    @abstractmethod
    def look_again(self) -> None:
        """Ask the server which version of the model it has now."""

    @abstractmethod
    def compute(self, http: HttpConnection, images: Pixels) -> NDArray[np.float32]:
        """Send one request over a connection, and return its vectors."""

    def channel(self) -> _Channel:
        """Return a new connection."""
        return _Channel(self, self.connect())

    def connect(self) -> HttpConnection:
        """Return a connection to the server, which its first request opens."""
        return HttpConnection(self._base, self._timeout_s)

    def path(self, version: str | None) -> str:
        """Return the path of the model, or of a version of it."""
        return f"{self._named}/versions/{version}" if version else self._named


class _Channel:
    """One connection."""

    def __init__(self, model: RestModel, http: HttpConnection) -> None:
        self._model = model
        self._http = http

    @property
    def connections(self) -> int:
        return self._http.connections

    def compute(self, images: Pixels) -> NDArray[np.float32]:
        """Send one request."""
        return self._model.compute(self._http, images)
