"""Pixels -> vectors, by a model server: several requests in flight, repeated if need be.

After each new connection and each change of the model's version, and every few seconds, the server
also computes an image whose vector is in the encoder. So another model is noticed before its
vectors reach a table; one that takes its place on the same connection, without a version, after
some seconds.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from pomona.errors import EncoderError, PomonaError, RunError
from pomona.runtime.endpoint.dialect import Busy, Channel, Refused
from pomona.runtime.endpoint.find import find_dialect
from pomona.runtime.parity import check_parity, check_vector, first_probe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pomona.encoder.encoder import Encoder
    from pomona.encoder.endpoint import Endpoint
    from pomona.encoder.preprocessing import Pixels

__all__ = ["EndpointRuntime", "served_by"]

_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 5.0
_TRUSTED_S = 10.0  # one image in this time, for each connection
_PATIENCE_AT_START_S = 5.0
_ADVICE = "serve this encoder, or give the one that is served"

_Answer = TypeVar("_Answer")


class EndpointRuntime:
    """The client of a model server.

    Attributes:
        batch_size: the images of all requests that are in flight together.
        preprocessing: the preprocessing that makes the pixels.
        dimension: the length D of a vector.
    """

    def __init__(self, encoder: Encoder, endpoint: Endpoint) -> None:
        """Find the server and its model.

        Raises:
            EncoderError: the server does not answer, or has no such model.
        """
        self.preprocessing = encoder.preprocessing
        self.dimension = encoder.dimension
        self._encoder = encoder
        self._endpoint = endpoint
        self._probe, self._expected = first_probe(encoder)
        self._has_computed = False
        self._over = threading.Event()  # no request is repeated any more
        self._threads = ThreadPoolExecutor(endpoint.in_flight)
        self._here = threading.local()  # each thread's channel, and what it was checked for
        self._looking = threading.Lock()
        self._dialect = self._answered(lambda: find_dialect(endpoint))
        fixed = self._dialect.images_at_once
        if fixed is not None and fixed > 1:
            raise self._failure(f"its model takes exactly {fixed} images, expected any number")
        self._each = fixed or max(1, endpoint.request_bytes // self._probe.nbytes)
        self.batch_size = self._each * endpoint.in_flight

    def predict(self, images: Pixels, features: NDArray[np.float32]) -> None:
        """Fill `features` (N, D) float32 from `images` (N, height, width, 3) uint8.

        Raises:
            EncoderError: the server computes another model; it has computed nothing before.
            RunError: it does so now, or does not answer.
        """
        starts = range(0, len(images), self._each)
        parts = [slice(start, start + self._each) for start in starts]
        try:
            for done in [self._threads.submit(self._fill, images[p], features[p]) for p in parts]:
                done.result()
        except BaseException:  # Ctrl-C, too: Python waits for these threads before it ends
            self._over.set()
            raise
        self._has_computed = True

    def _fill(self, images: Pixels, features: NDArray[np.float32]) -> None:
        features[:] = self._answered(lambda: self._checked(images))

    def _checked(self, images: Pixels) -> NDArray[np.float32]:
        """Send one request, and make sure that the expected model has answered it."""
        here = self._here
        if not hasattr(here, "channel"):
            here.channel, here.checked = self._dialect.channel(), None
        channel: Channel = here.channel
        vectors = self._computed(channel, images)
        period = int(time.monotonic() / _TRUSTED_S)
        state = (channel.connections, self._dialect.version, period)
        if here.checked != state:
            found = self._computed(channel, self._probe)
            try:
                check_vector(self._encoder, self._expected, found[0], _ADVICE)
            except EncoderError as error:
                raise self._failure(f"it computes something else: {error}") from error
            if channel.connections != state[0]:
                raise Busy("it breaks the connection off")
            here.checked = state
        return vectors

    def _computed(self, channel: Channel, images: Pixels) -> NDArray[np.float32]:
        vectors = channel.compute(images)
        if vectors.shape != (len(images), self.dimension):
            shape = " x ".join(map(str, vectors.shape))
            raise self._failure(
                f"it returns {shape} numbers for {len(images)} images, expected {self.dimension} "
                f"for each: {_ADVICE}"
            )
        return vectors

    def _answered(self, request: Callable[[], _Answer]) -> _Answer:
        """Repeat a request until it is answered, or until the deadline."""
        deadline = time.monotonic() + self._endpoint.deadline_s
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                return request()
            except Busy as error:
                reason, pause_s = str(error), error.after_s or 0.0
            except Refused as error:
                if not self._is_changing():
                    raise self._failure(str(error)) from error
                reason, pause_s = str(error), 0.0
            # Workers that were refused together must not return together.
            pause_s = max(pause_s, wait_s * random.uniform(0.5, 1.0))  # noqa: S311
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            if time.monotonic() + pause_s > deadline or self._over.wait(pause_s):
                waited = f" for {self._endpoint.deadline_s:g} s" if self._has_computed else ""
                raise self._failure(f"{reason}{waited}")

    def _is_changing(self) -> bool:
        """Return whether a refused request may succeed: the model is loading, or has a new version.

        A server that starts again answers before its model can.
        """
        if not self._has_computed:
            return False
        with self._looking:
            before = self._dialect.version
            try:
                self._dialect.look_again()
            except (Busy, Refused):
                return True
            return self._dialect.version != before

    def _failure(self, reason: str) -> PomonaError:
        start = f"endpoint {self._endpoint.url}: {reason}"
        if not self._has_computed:
            return EncoderError(start)
        return RunError(f"{start}; rows written so far stay, and another run continues")


def served_by(endpoint: Endpoint, encoder: Encoder) -> Encoder:
    """Return an encoder that a server computes, after checking that the server does.

    Raises:
        EncoderError: it does not.
    """
    served = endpoint.of(encoder)
    # Without patience, and with one connection only.
    quick = min(endpoint.deadline_s, _PATIENCE_AT_START_S)
    check_parity(served, EndpointRuntime(served, replace(endpoint, deadline_s=quick, in_flight=1)))
    return served
