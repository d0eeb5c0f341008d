"""Where a model server computes an encoder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pomona.errors import EncoderError

if TYPE_CHECKING:
    from pomona.encoder.encoder import Encoder

__all__ = ["Endpoint"]

_SCHEMES = ("http", "https", "grpc", "grpcs")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An encoder that a model server computes, for `encoder` of any function.

        fruit = pomona.Endpoint("http://gpu:8000/v2/models/fruit", "fruit.encoder")
        pomona.extract("photos/", "features/", encoder=fruit)

    Pomona decodes and resizes the images, and sends pixels. The encoder says how, and which vectors
    the server must return for the images of the parity gate. The table is the same as without a
    server.

    A bearer token comes from the environment variable `POMONA_ENDPOINT_TOKEN` of each worker.

    Attributes:
        url: the address of a server with one model, `http://host:8000`, or of a model:
            `http://host:8000/v2/models/NAME` (Open Inference Protocol, also of one version),
            `http://host:8501/v1/models/NAME` (TensorFlow Serving, KServe), or
            `grpc://host:8001/NAME` (Open Inference Protocol). `https` and `grpcs` are encrypted.
        encoder: the encoder, its path or URI, the name of a network, or the file of a network. The
            default is that of the function: `mobilenet_v2`, or the encoder of a classifier.
        in_flight: number of requests that each worker process has in flight.
        request_bytes: most bytes of pixels in one request, which has at least one image.
        timeout_s: seconds to wait for an answer.
        deadline_s: seconds after which a run ends if the server cannot answer a request that is
            repeated.

    Raises:
        EncoderError: a value is not valid.
    """

    url: str
    encoder: Encoder | str | os.PathLike[str] | Callable[[], Encoder] | None = None
    in_flight: int = 4
    request_bytes: int = 2**21
    timeout_s: float = 30.0
    deadline_s: float = 120.0

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            is_address = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_address = False
        if not is_address:
            raise EncoderError(
                f"endpoint {self.url!r} is not the address of a model server: expected "
                "http://HOST:PORT, http://HOST:PORT/v2/models/NAME or grpc://HOST:PORT/NAME"
            )
        if "@" in parts.netloc:
            raise EncoderError(
                f"endpoint {parts.scheme}://***@{parts.netloc.rpartition('@')[2]} contains a user: "
                "put a token into the environment variable POMONA_ENDPOINT_TOKEN"
            )
        if parts.query or parts.fragment:
            raise EncoderError(f"endpoint {self.url!r} has a part after its path: leave it out")
        for name in ("in_flight", "request_bytes", "timeout_s", "deadline_s"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise EncoderError(f"{name} is {value!r}: give a number above 0")

    def of(self, encoder: Encoder) -> Encoder:
        """Return an encoder that is computed there.

        Raises:
            EncoderError: its pixels are not 8-bit integers.
        """
        if encoder.preprocessing.pixel_type != "uint8":
            raise EncoderError(
                f"encoder {encoder.fingerprint[:12]} ({encoder.model}) takes pixels that are not "
                "rounded, and Pomona sends 8-bit pixels: compute it without an endpoint"
            )
        return replace(encoder, endpoint=replace(self, encoder=None))
