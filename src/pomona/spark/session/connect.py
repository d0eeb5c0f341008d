"""Sessions of Spark Connect: Pomona's own on a server, or the caller's, with settings for a run."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pomona.errors import EngineError
from pomona.messages import one_line

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["borrowed", "connect_url", "connected", "without_token"]

_log = logging.getLogger(__name__)

_CONNECT_WITHIN_S = 20


def connect_url(master: str | None) -> str | None:
    """Return the address of a Spark Connect server if `master` or `$SPARK_REMOTE` is one."""
    url = master or os.environ.get("SPARK_REMOTE", "")
    return url if url.startswith("sc://") else None


def without_token(url: str) -> str:
    """Return an address without its parameters, which can contain a token."""
    return url.partition("/;")[0]


@contextmanager
def connected(url: str, settings: Mapping[str, str]) -> Iterator[SparkSession]:
    """Open a session on a Spark Connect server, and stop it on exit.

    Raises:
        EngineError: the server does not answer, or refuses the session.
    """
    import grpc
    from pyspark.errors import PySparkException
    from pyspark.sql.connect.client import DefaultChannelBuilder
    from pyspark.sql.connect.session import SparkSession as Session

    try:
        # The session itself would try for ten minutes.
        channel = DefaultChannelBuilder(url).toChannel()
        grpc.channel_ready_future(channel).result(timeout=_CONNECT_WITHIN_S)
        channel.close()
        ours: Any = Session.builder.remote(url).create()
        _set(ours, settings)
    except grpc.FutureTimeoutError as error:
        raise EngineError(
            f"no Spark Connect server answers at {without_token(url)} within {_CONNECT_WITHIN_S} "
            "s: check that it is running, and the port (15002 by default)"
        ) from error
    except (PySparkException, grpc.RpcError) as error:
        raise EngineError(f"cannot connect to {without_token(url)}: {one_line(error)}") from error
    try:
        yield ours
    finally:
        ours.stop()


@contextmanager
def borrowed(active: SparkSession, settings: Mapping[str, str]) -> Iterator[SparkSession]:
    """Change settings of the caller's session, and restore them on exit.

    Artifacts and workers of Spark Connect belong to one session, so a clone could not use them.
    """
    from pyspark.errors import PySparkException

    before = active.conf.getAll
    _set(active, settings)
    try:
        yield active
    finally:
        try:
            after = active.conf.getAll
            for key in after.keys() - before.keys():
                active.conf.unset(key)
            _set(active, {key: value for key, value in before.items() if after.get(key) != value})
        except PySparkException as error:  # the server has gone; the run reports that
            _log.warning("the session's settings could not be restored: %s", error)


def _set(spark: SparkSession, settings: Mapping[str, str]) -> None:
    for key, value in settings.items():
        spark.conf.set(key, value)
