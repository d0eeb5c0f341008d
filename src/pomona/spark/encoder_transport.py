"""How an encoder reaches the workers of Spark. In either case, a process loads it once.

broadcast   the driver sends it: a broadcast variable, or an artifact of a Spark Connect session
file        each worker process reads it from storage that all machines reach
"""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from pomona.encoder.encoder import Encoder
from pomona.encoder.endpoint import Endpoint
from pomona.encoder.names import DEFAULT_MODEL
from pomona.errors import EncoderError
from pomona.io.file_systems import needs_jvm
from pomona.io.location import canonical, is_remote, local_path, read_file, without_password
from pomona.job.options import Delivery
from pomona.runtime.registry import load_once
from pomona.spark.session.session import is_connect
from pomona.spark.task_gpu import take_assigned_gpu

if TYPE_CHECKING:
    from pyspark import Broadcast
    from pyspark.sql import SparkSession

    from pomona.runtime.runtime import Runtime

__all__ = ["EncoderHandle", "encoder_handle", "open_encoder", "task_cpus"]


@dataclass(frozen=True, slots=True)
class EncoderHandle:
    """A reference to an encoder, which is pickled for the workers instead of the encoder."""

    fingerprint: str
    provenance: dict[str, str]
    way: _Delivery
    endpoint: Endpoint | None = None

    def runtime(self) -> Runtime:
        """Return this process's loaded network. The encoder is fetched the first time only.

        Raises:
            EncoderError: it cannot be read here, or differs from the one that the driver read.
        """
        take_assigned_gpu()
        return load_once(self.fingerprint, self.way.fetch, task_cpus(), self.endpoint)

    def encoder(self) -> Encoder:
        """Fetch the encoder, and return it.

        Raises:
            EncoderError: it cannot be read here, or differs from the one that the driver read.
        """
        take_assigned_gpu()  # a child process inherits it
        return replace(self.way.fetch(), endpoint=self.endpoint)

    def release(self) -> None:
        """Free the encoder's memory on the driver; it cannot be fetched afterwards."""
        self.way.release()


def task_cpus() -> int:
    """Return the number of cores of the running task: `spark.task.cpus`."""
    from pyspark import TaskContext

    context = TaskContext.get()
    return 1 if context is None else context.cpus()


def open_encoder(
    encoder: Encoder | Endpoint | str | os.PathLike[str] | Callable[[], Encoder],
    delivery: Delivery | None,
) -> tuple[Encoder, str | None]:
    """Load an encoder on the driver, and choose how it reaches the workers.

    Args:
        encoder: an encoder, its path or URI, the name or the file of a network, an endpoint, or a
            function that returns an encoder.
        delivery: `file` or `broadcast`; by default `file` for a URI that Arrow reads, else
            `broadcast`.

    Returns:
        The encoder, and the location from which workers read it; None if it is sent to them.

    Raises:
        EncoderError: it cannot be read, or `delivery` is `file` and the encoder has no file.
    """
    if isinstance(encoder, Endpoint):
        from pomona.runtime.endpoint.runtime import served_by

        found, location = open_encoder(encoder.encoder or DEFAULT_MODEL, delivery)
        return served_by(encoder, found), location
    if callable(encoder):
        encoder = encoder()
    if not isinstance(encoder, Encoder):
        from pomona.building.build import build_encoder, is_network

        if is_network(encoder):
            encoder = build_encoder(encoder)
    if isinstance(encoder, Encoder):
        if delivery == "file":
            raise EncoderError(
                "delivery 'file' needs an encoder's path or URI, not one in memory: save it to "
                "storage that all workers reach, and give that path"
            )
        return encoder, None
    path = os.fspath(encoder)
    location = canonical(path) if is_remote(path) else str(Path(local_path(path)).absolute())
    as_file = delivery == "file"
    if delivery is None and is_remote(path):
        as_file = not needs_jvm(path)  # workers have none
    return Encoder.load(path), location if as_file else None


def encoder_handle(spark: SparkSession, encoder: Encoder, location: str | None) -> EncoderHandle:
    """Make an encoder available to workers.

    Args:
        spark: the session of the workers.
        encoder: the encoder.
        location: where workers read it; None to send it to them.
    """
    way: _Delivery
    if location is not None:
        way = _File(location, encoder.fingerprint)
    elif is_connect(spark):
        way = _send_artifact(spark, encoder.for_images().to_bytes())
    else:
        way = _Broadcast(spark.sparkContext.broadcast(encoder.for_images().to_bytes()))
    return EncoderHandle(encoder.fingerprint, encoder.provenance(), way, encoder.endpoint)


class _Delivery(Protocol):
    def fetch(self) -> Encoder:
        """Return the encoder, on a worker."""

    def release(self) -> None:
        """Free its memory, on the driver."""


@dataclass(frozen=True, slots=True)
class _Broadcast:
    """Bytes that Spark stores once on each executor."""

    blob: Broadcast[bytes]

    def fetch(self) -> Encoder:
        return Encoder.from_bytes(self.blob.value)

    def release(self) -> None:
        self.blob.destroy()


@dataclass(frozen=True, slots=True)
class _File:
    """A file that workers read."""

    location: str
    fingerprint: str

    def fetch(self) -> Encoder:
        name = without_password(self.location)
        try:
            blob = read_file(self.location, by_jvm=False)
        except OSError as error:
            raise EncoderError(
                f"a worker on {socket.gethostname()} cannot read the encoder {name} "
                f"({error.strerror or error}): put it where every worker can read it, or send it "
                "with `delivery` broadcast"
            ) from error
        encoder = Encoder.from_bytes(blob, name)
        if encoder.fingerprint != self.fingerprint:
            raise EncoderError(
                f"the encoder {name} was replaced while it was used: the driver read "
                f"{self.fingerprint[:12]}, a worker {encoder.fingerprint[:12]}; run it again"
            )
        return encoder

    def release(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _Artifact:
    """A file of the session, which Spark copies to its workers.

    Measured on Spark 4.3: sending 100 MB takes 2 s, once; 350 MB also work. In the closure of the
    function they would be in every plan, and 60 MB crash a server with Spark's default heap.
    """

    name: str

    def fetch(self) -> Encoder:
        from pyspark import SparkFiles

        path = Path(SparkFiles.get(self.name))
        if not path.exists():  # Spark 4.3 runs a streaming query without the files of its session
            raise EncoderError(
                "Spark did not send the encoder to its workers, because a streaming query over "
                "Spark Connect has no files of its session: save the encoder to storage that every "
                "worker reaches, and give that path with `delivery` file"
            )
        return Encoder.load(path)

    def release(self) -> None:
        pass  # it is deleted with the session


_sent: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()  # session -> names of its artifacts


def _send_artifact(spark: SparkSession, blob: bytes) -> _Artifact:
    name = f"pomona-{hashlib.sha256(blob).hexdigest()[:32]}.encoder"
    names = _sent.setdefault(spark, set())
    if name not in names:
        with tempfile.TemporaryDirectory(prefix="pomona-") as folder:
            path = Path(folder, name)
            path.write_bytes(blob)
            spark.addArtifacts(str(path), file=True)
        names.add(name)
    return _Artifact(name)
