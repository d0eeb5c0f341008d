"""The description of a run."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pomona.errors import SourceError
from pomona.io.location import is_remote, local_path
from pomona.io.remote import repeated
from pomona.io.web_address import USUAL_LIMITS, WebLimits
from pomona.job.gone_rows import Missing
from pomona.job.plan import Plan
from pomona.job.stored_kept import StoredKept
from pomona.job.tables import NO_ROWS
from pomona.source.archives.listing import archives_of
from pomona.source.image_list import ImageList, is_list
from pomona.source.image_table import ImageColumns, TableImages
from pomona.source.inventory import Inventory, is_inventory
from pomona.source.kept import NOTHING, has_no_columns
from pomona.source.listing import Listing, Source
from pomona.source.remote import RemoteSource
from pomona.source.selection import KNOWN_IMAGES, Selection
from pomona.table.feature_table import FeatureTable
from pomona.table.managed_folders import DELTA, managed

if TYPE_CHECKING:
    import pyarrow as pa

    from pomona.encoder.encoder import Encoder
    from pomona.job.tables import ReadableTable
    from pomona.source.images import Images
    from pomona.source.labels import LabelRule
    from pomona.worker.prepare import DecodeOptions

IMAGE_TIMEOUT_S = 120.0

__all__ = [
    "IMAGE_TIMEOUT_S",
    "Job",
    "JobPaths",
    "images_of",
    "table_images",
]


@dataclass(frozen=True, slots=True)
class JobPaths:
    """The source and the table of a job.

    Attributes:
        source: folder, file or glob, or archives; a path of this machine or a URI.
        table: folder of the feature table; a path of this machine or a URI.
        selection: which files below the source are images of the run.
        columns: if the images are in Parquet files, their columns.
        keep: columns beside the images that the run copies into the table.
        web: what fetching from the web may cost.
        delta: whether a new table becomes a Delta table.
    """

    source: str
    table: str
    selection: Selection = KNOWN_IMAGES
    columns: ImageColumns | None = None
    keep: tuple[str, ...] = ()
    web: WebLimits = USUAL_LIMITS
    delta: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """One extraction.

    Attributes:
        paths: the source and the table.
        encoder: the encoder.
        label: returns the label of an image.
        label_rule: the value of `label` for this rule; None if no run has set one.
        decode: how images become pixels.
        overwrite: replace the table instead of continuing it.
        retry_failed: compute images again whose row has no vector.
        prune: delete rows whose file was in the source and no longer exists.
        missing: which of these rows stay, and whether those of other sources are deleted too.
        dry_run: write nothing, only determine what a run would do.
        image_timeout_s: seconds that one image may take before its process is killed.
        wave_files: on Spark, number of files in one commit; None to choose it by the cores.
        encoder_location: where Spark's workers read the encoder; None to send it to them.
        kept: columns of the source that the rows have after those of every table.
        started: time of the call, on the monotonic clock.
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
    kept: pa.Schema = NOTHING
    started: float = field(default_factory=time.monotonic)

    def provenance(self) -> dict[str, str]:
        """Return the provenance of the rows."""
        return {**self.encoder.provenance(), **self.decode.provenance()}

    def plan(self, listing: Listing, table: ReadableTable) -> Plan:
        """Return the plan of the run for the current rows of a table."""
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
            kept=self.kept,
            stored_kept=self._stored_kept if self.kept.names else None,
        )

    def _stored_kept(self) -> StoredKept:
        return StoredKept(FeatureTable.at(self.paths.table), self.kept)


def images_of(paths: JobPaths) -> Images:
    """Return the images of a source for the embedded engine, without a table inside it.

    Raises:
        SourceError: its file system cannot be reached, or another system, such as Delta, manages
            the Parquet files.
    """
    if paths.columns is not None:
        return table_images(paths.source, paths.columns)
    if is_list(paths.source):
        if paths.selection != KNOWN_IMAGES:
            raise SourceError(
                f"{paths.source} is a list of images: `globs` and `exclude` choose files in "
                "folders, and not entries of a list"
            )
        return ImageList(paths.source, paths.web, paths.keep)
    if paths.keep:
        raise has_no_columns(paths.keep)
    if is_inventory(paths.source):
        return Inventory(paths.source, paths.selection)
    if is_remote(paths.source):
        table_uri = paths.table if is_remote(paths.table) else None
        far = RemoteSource.at(paths.source, paths.selection, table_uri)
        return archives_of(far) or far
    table = os.path.abspath(local_path(paths.table))  # noqa: PTH100
    source = Source(paths.source, paths.selection, table)
    return archives_of(source) or source


def table_images(source: str, columns: ImageColumns) -> TableImages:
    """Return the images inside Parquet files or a Delta table.

    Raises:
        SourceError: another system manages the files, so only some count: others are deleted or
            replaced. Pomona reads the log of Delta only.
    """
    images = TableImages.at(source, columns)
    given = images.folder
    try:
        found = repeated(lambda: managed(given), f"look at {given}")
    except OSError:
        found = None  # listing it will say why
    if found and found.kind is DELTA and found.is_whole(given):
        return images.of_delta()
    for folder in images.folders():
        if found := managed(folder):
            whole = f"give {found.root} as `source`; or " if found.kind is DELTA else ""
            raise SourceError(
                f"{folder} is in {found.kind.name}, {found.root}, whose log says which files "
                f"count: {whole}on Spark, give {found.kind.reader} to pomona.featurize"
            )
    return images
