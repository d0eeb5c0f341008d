"""What a caller decides about a run: the engine, and what happens to a table that exists."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pomona.errors import EngineError, UsageError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from pomona.job.summary import Summary

__all__ = ["Delivery", "Follow", "LocalEngine", "Resume", "SparkEngine"]

Delivery = Literal["broadcast", "file"]
"""How an encoder reaches the workers of Spark: sent by the driver, or read from storage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalEngine:
    """The embedded engine: worker processes on this machine.

    Attributes:
        workers: number of worker processes; by default one for each core.
        image_timeout_s: seconds that one image may take before it gets the status `crashed`; by
            default 120.

    Raises:
        EngineError: a number is not valid.
    """

    workers: int | None = None
    image_timeout_s: float | None = None

    def __post_init__(self) -> None:
        _check_number("workers", self.workers, 1)
        _check_number("image_timeout_s", self.image_timeout_s, 0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SparkEngine:
    """Apache Spark.

    Attributes:
        spark: a session to use. By default the active session, or a new one that is stopped at the
            end.
        master: Spark's master for a new session: `local[4]`, `spark://host:7077`, `yarn`,
            `sc://host:15002`.
        delivery: `broadcast` sends the encoder to the workers; with `file` each worker process
            reads it. The default is `file` for a URI of another file system.
        wave_files: number of files in one commit, which is the work that a lost driver costs. The
            default depends on the cores.
        image_timeout_s: seconds that one image may take before it gets the status `crashed`; by
            default 120.

    Raises:
        EngineError: a value is not valid, or `spark` and `master` are given together.
    """

    spark: SparkSession | None = None
    master: str | None = None
    delivery: Delivery | None = None
    wave_files: int | None = None
    image_timeout_s: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.spark, str):
            raise EngineError(f"`spark` is {self.spark!r}: give a session, or a URL as `master`")
        if self.spark is not None and self.master is not None:
            raise EngineError(
                f"`spark` and `master` {self.master!r} are given together: give `spark` for a "
                "session that exists, or `master` for a new one"
            )
        if self.delivery not in (None, "broadcast", "file"):
            raise EngineError(f"delivery is {self.delivery!r}: give one of broadcast, file")
        _check_number("wave_files", self.wave_files, 1)
        _check_number("image_timeout_s", self.image_timeout_s, 0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """What happens to a table that exists. By default a run continues it.

    Attributes:
        overwrite: replace the table instead of continuing it.
        retry_failed: compute images again whose row has no vector.
        prune: delete rows whose file was in the source and no longer is. Rows stay if the folder
            of the file is empty, because a disk may be unmounted.
        missing: with `prune`, also delete rows of other sources whose file no longer exists. They
            stay if its folder does not exist or is empty, unless a file with the same bytes is in
            the source.
        gone: a folder that no longer exists, or several: with `prune`, the rows below it are
            deleted.

    Raises:
        UsageError: `missing` or `gone` is given without `prune`, or a folder has no name.
    """

    overwrite: bool = False
    retry_failed: bool = False
    prune: bool = False
    missing: bool = False
    gone: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = ()

    def __post_init__(self) -> None:
        if self.missing and not self.prune:
            raise UsageError("`missing` goes with `prune`: it chooses more rows to delete")
        if self.gone and not self.prune:
            raise UsageError("`gone` goes with `prune`: it names a folder that is gone")
        if not isinstance(self.gone, (str, os.PathLike)) and "" in self.gone:
            raise UsageError("`gone`: '' is not a folder: expected a path")


@dataclass(frozen=True, slots=True, kw_only=True)
class Follow:
    """How a run follows its source: it looks for new images until it is stopped.

    Attributes:
        on_run: called with the summary of the first run, and of each later one that has changed the
            table. An exception from it stops following.
        every_s: seconds between two looks. If looking takes long, Pomona waits longer: looking
            takes at most a tenth of the time.

    Raises:
        UsageError: `every_s` is not valid.
    """

    on_run: Callable[[Summary], None]
    every_s: float = 2.0

    def __post_init__(self) -> None:
        if not 0.1 <= self.every_s < float("inf"):
            raise UsageError(f"every_s is {self.every_s!r}: give seconds from 0.1 up")


def _check_number(name: str, given: float | None, least: float) -> None:
    if given is not None and not given >= least:  # so that NaN is refused, too
        raise EngineError(f"{name} is {given!r}: give a number from {least:g} up")
