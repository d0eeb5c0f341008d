"""How an encoder reaches the workers of Spark. However it does, a process loads it once.

broadcast   the driver sends it: a broadcast variable, or on Spark Connect a session's artifact
file        each worker process reads it from storage that all machines reach
"""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from pomona.encoder.drawn_warning import warn_of_drawn
from pomona.encoder.encoder import Encoder
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
    """An encoder on its way to the workers: what is pickled in place of the encoder itself."""

    fingerprint: str
    provenance: dict[str, str]
    way: _Delivery

    def runtime(self) -> Runtime:
        """This process's loaded network; the encoder is looked at the first time only.

        Raises:
            EncoderError: it cannot be had here, or is not the one that the driver saw.
        """
        take_assigned_gpu()
        return load_once(self.fingerprint, self.way.fetch, copies=task_cpus())

    def encoder(self) -> Encoder:
        """The encoder itself, fetched anew.

        Raises:
            EncoderError: as `runtime`.
        """
        take_assigned_gpu()  # which a child process of this one inherits
        return self.way.fetch()

    def release(self) -> None:
        """Free on the driver what carried the encoder: it will not be fetched any more."""
        self.way.release()


def task_cpus() -> int:
    """How many cores Spark gives to the task that runs here: `spark.task.cpus`."""
    from pyspark import TaskContext

    context = TaskContext.get()
    return 1 if context is None else context.cpus()


def open_encoder(
    encoder: Encoder | str | os.PathLike[str], delivery: Delivery | None
) -> tuple[Encoder, str | None]:
    """Load an encoder on the driver, and decide how it is to travel.

    Args:
        encoder: itself, or its path or URI.
        delivery: how; by default `file` for a URI that Arrow reads, else `broadcast`.

    Returns:
        The encoder, and the location from which workers read it: None where it is sent to them.

    Raises:
        EncoderError: it cannot be read, or is in no file and was to travel as one.
    """
    if isinstance(encoder, Encoder):
        if delivery == "file":
            raise EncoderError(
                "delivery 'file' needs an encoder's path or URI, not one in memory: save it to "
                "storage that all workers reach, and give that path"
            )
        warn_of_drawn(encoder.provenance())
        return encoder, None
    given = os.fspath(encoder)
    location = canonical(given) if is_remote(given) else str(Path(local_path(given)).absolute())
    as_file = delivery == "file"
    if delivery is None and is_remote(given):
        as_file = not needs_jvm(given)  # which workers have not
    loaded = Encoder.load(given)
    warn_of_drawn(loaded.provenance())
    return loaded, location if as_file else None


def encoder_handle(spark: SparkSession, encoder: Encoder, location: str | None) -> EncoderHandle:
    """Send an encoder on its way.

    Args:
        spark: the session whose workers are to have it.
        encoder: itself.
        location: from where workers read it; None to send it to them.
    """
    way: _Delivery
    if location is not None:
        way = _File(location, encoder.fingerprint)
    elif is_connect(spark):
        way = _send_artifact(spark, encoder.to_bytes())
    else:
        way = _Broadcast(spark.sparkContext.broadcast(encoder.to_bytes()))
    return EncoderHandle(encoder.fingerprint, encoder.provenance(), way)


class _Delivery(Protocol):
    def fetch(self) -> Encoder:
        """Get the encoder, on a worker."""

    def release(self) -> None:
        """Free what carried it, on the driver."""


@dataclass(frozen=True, slots=True)
class _Broadcast:
    """Spark keeps the bytes once on each executor."""

    blob: Broadcast[bytes]

    def fetch(self) -> Encoder:
        return Encoder.from_bytes(self.blob.value)

    def release(self) -> None:
        self.blob.destroy()


@dataclass(frozen=True, slots=True)
class _File:
    """A file that workers read themselves."""

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
    """A file of the session's, which Spark puts beside its workers.

    Measured on Spark 4.3: 100 MB take 2 s to send, once; 350 MB pass as well. In the closure of the
    function they would be in every plan, and 60 MB end a server with Spark's default heap.
    """

    name: str

    def fetch(self) -> Encoder:
        from pyspark import SparkFiles

        return Encoder.load(SparkFiles.get(self.name))

    def release(self) -> None:
        pass  # it goes with the session


_sent: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()  # session: names of its artifacts


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
