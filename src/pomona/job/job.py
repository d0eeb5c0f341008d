"""What a run is asked to do."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pomona.io.location import local_path
from pomona.job.gone_rows import Missing
from pomona.job.plan import Plan
from pomona.job.tables import NO_ROWS
from pomona.source.listing import Listing, Source
from pomona.source.selection import KNOWN_IMAGES, Selection

if TYPE_CHECKING:
    from pomona.encoder.encoder import Encoder
    from pomona.job.tables import ReadableTable
    from pomona.source.labels import LabelRule
    from pomona.worker.prepare import DecodeOptions

IMAGE_TIMEOUT_S = 120.0

__all__ = [
    "IMAGE_TIMEOUT_S",
    "Job",
    "JobPaths",
    "local_listing",
    "local_uris",
]


@dataclass(frozen=True, slots=True)
class JobPaths:
    """From where to where.

    Attributes:
        source: folder, file or glob; a path of this machine or a URI.
        table: folder of the feature table; a path or a URI too.
        selection: which files below the source are taken.
    """

    source: str
    table: str
    selection: Selection = KNOWN_IMAGES


@dataclass(frozen=True, slots=True)
class Job:
    """One extraction.

    Attributes:
        paths: from where to where.
        encoder: what turns images into vectors.
        label: returns the label of an image.
        label_rule: the same as it was asked for; None if nothing was asked for, now or before.
        decode: how images become pixels.
        overwrite: replace the table rather than continue it.
        retry_failed: do images again whose row has no vector.
        prune: remove rows whose file was in the source and no longer exists.
        missing: which of these rows stay, and whether those of other sources are removed too.
        dry_run: write nothing, find out what would be done.
        image_timeout_s: seconds that one image may take before its process is ended.
        wave_files: on Spark, the files of one commit; None for a number that suits the cores.
        encoder_location: from where Spark's workers read the encoder; None to send it to them.
        started: when the caller asked for it, on the monotonic clock.
    """

    paths: JobPaths
    encoder: Encoder
    label: LabelRule
    decode: DecodeOptions
    label_rule: str | None = None
    overwrite: bool = False
    retry_failed: bool = False
    prune: bool = False
    missing: Missing = field(default_factory=Missing)
    dry_run: bool = False
    image_timeout_s: float = IMAGE_TIMEOUT_S
    wave_files: int | None = None
    encoder_location: str | None = None
    started: float = field(default_factory=time.monotonic)

    def provenance(self) -> dict[str, str]:
        """What the table will say of how its rows were made."""
        return {**self.encoder.provenance(), **self.decode.provenance()}

    def plan(self, listing: Listing, table: ReadableTable) -> Plan:
        """What the run has to do, for the rows that a table has now."""
        return Plan(
            listing,
            NO_ROWS if self.overwrite else table,
            self.label,
            relabel=self.label_rule is not None,
            retry_failed=self.retry_failed,
            prune=self.prune,
            missing=self.missing,
            provenance=self.provenance(),
            max_pixels=self.decode.max_pixels,
        )


def local_listing(paths: JobPaths) -> Listing:
    """Begin to list a source on this machine, but for a table that lies in it.

    Raises:
        SourceError: it is missing.
    """
    table = os.path.abspath(local_path(paths.table))  # noqa: PTH100
    source = Source(paths.source, paths.selection, table)
    source.check()
    return Listing(paths.source, source.files, source.is_gone)


def local_uris(paths: JobPaths) -> Iterator[str]:
    """The paths of all images of a source on this machine, as in the table."""
    table = os.path.abspath(local_path(paths.table))  # noqa: PTH100
    source = Source(paths.source, paths.selection, table)
    for file in source.files(lambda _: None):
        yield file.uri
