"""The main job: images in, feature table out. Wires encoder, labels and engine together."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pomona.encoder.encoder import Encoder
from pomona.encoder.endpoint import Endpoint
from pomona.encoder.names import DEFAULT_MODEL
from pomona.errors import EngineError, RunError, SourceError, TableError, UsageError
from pomona.extras import check_extra
from pomona.io.file_systems import needs_jvm
from pomona.io.location import (
    canonical,
    check_spelling,
    check_unambiguous,
    elsewhere,
    is_remote,
    local_path,
    without_password,
)
from pomona.io.remote import RemotePlace
from pomona.io.web_address import WebLimits
from pomona.job.dry_run import EarlyPlan, rehearse
from pomona.job.gone_rows import Missing
from pomona.job.job import IMAGE_TIMEOUT_S, Job, JobPaths, images_of, table_images
from pomona.job.options import Follow, LocalEngine, Resume, SparkEngine
from pomona.job.summary import Summary
from pomona.progress import Progress, no_progress
from pomona.source.archives.listing import Archives
from pomona.source.image_list import ImageList
from pomona.source.image_table import ImageColumns, TableImages
from pomona.source.kept import NOTHING, has_no_columns
from pomona.source.label_rule import Labelling
from pomona.source.labels import ColumnLabels
from pomona.source.listing import Listing
from pomona.source.selection import KNOWN_IMAGES, Selection
from pomona.spark.encoder_transport import open_encoder
from pomona.spark.errors import spark_errors
from pomona.spark.session.session import active_session, check_spark, session
from pomona.spark.storage.choose import choose_stores, is_read_by_hadoop
from pomona.table.feature_table import FeatureTable
from pomona.table.label_record import read_label_rule
from pomona.worker.prepare import EXACT, DecodeOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow as pa
    from pyspark.sql import SparkSession

    from pomona.spark.storage.choose import TableStore

__all__ = ["extract"]

_LOCAL, _CONTINUE = LocalEngine(), Resume()


def extract(  # noqa: PLR0913 - the job's settings, each with a sensible default
    source: str | os.PathLike[str],
    table: str | os.PathLike[str],
    *,
    encoder: Encoder | Endpoint | str | os.PathLike[str] | Callable[[], Encoder] = DEFAULT_MODEL,
    engine: LocalEngine | SparkEngine = _LOCAL,
    resume: Resume = _CONTINUE,
    label: str | None = None,
    globs: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    image_column: str | None = None,
    key_column: str | None = None,
    keep: str | Sequence[str] = (),
    table_format: Literal["parquet", "delta"] | None = None,
    private_urls: bool = False,
    decode: DecodeOptions = EXACT,
    dry_run: bool = False,
    follow: Follow | None = None,
    progress: Progress = no_progress,
) -> Summary:
    """Turn a collection of images into a feature table with one row for every file.

        pomona.extract("photos/", "features/", encoder="fruit.encoder")
        pomona.extract("photos/", "features/", engine=pomona.SparkEngine(master="local[4]"))

    If the table exists, the run continues it: it computes files without a row, and files that
    changed after their row was made.

    Args:
        source: a folder, an image, or a glob, as a path or as a URI such as `s3://bucket/photos`;
            tar or zip files of images, or a folder of them; a list of images, as `.txt`, `.csv` or
            `.parquet`, or the `manifest.json` of S3 Inventory; or Parquet files that contain
            images.
        table: folder for the feature table, as a path or as a URI such as `s3://bucket/features`.
        encoder: an encoder, its path or URI, the name of a network (`pomona models` lists them; it
            gets ImageNet weights), the file of a network, an `Endpoint`, or a function that returns
            an encoder. The function is called after all other arguments have been checked.
        engine: `LocalEngine()` for worker processes on this machine, `SparkEngine()` for Apache
            Spark.
        resume: what happens to a table that exists.
        label: `parent`, `none`, `regex:PATTERN` or `csv:FILE`; see `pomona.source.label_file`.
            For Parquet files, lists and archives, also `column:COLUMN`.
            It also changes the labels of existing rows. The default is the rule of an earlier
            run, or `parent` for new rows.
        globs: a pattern for file names, or several, to select files in place of the known
            extensions.
        exclude: a pattern for files and folders to exclude, or several: `*.mov`, `drafts/`,
            `2019/*/raw/**`; see `pomona.source.exclusions`. A file that has a row and is excluded
            now counts as deleted.
        image_column: if the images are in Parquet files, their column: binary, or a struct with
            `bytes` as Hugging Face writes it. `source` is then such a file, a folder, a glob, or
            the folder of a Delta table.
        key_column: the column that identifies a row, text or integers; it becomes `path` in the
            table. The default is the field `path` of such a struct.
        keep: other columns of these Parquet files, or of a list, that the rows get, one or several.
        table_format: `delta` makes a new table a Delta table; `table` is then a path. The default
            is plain Parquet files; an existing table stays what it is.
        private_urls: whether URLs in a list may lead to private, loopback and link-local addresses.
        decode: how images become pixels.
        dry_run: write nothing; the summary's `changes` say what a run would do.
        follow: continue to look for new and changed images, on this machine, until an exception
            such as `KeyboardInterrupt` stops it; see `Follow`.
        progress: called with the progress.

    Returns:
        A summary of the run. With `follow`, the call does not return.

    Raises:
        UsageError: the request cannot be done; nothing was written.
        RunError: the run could not continue; rows written so far stay, and another run continues.
    """
    started = time.monotonic()
    on_spark = isinstance(engine, SparkEngine)
    selection = Selection(_patterns(globs), _patterns(exclude))
    paths = _paths(_at_home(source), _at_home(table), selection, on_spark=on_spark)
    paths = replace(
        paths,
        columns=_columns(image_column, key_column, _patterns(keep), paths),
        keep=_patterns(keep),
        web=WebLimits(private=private_urls),
        delta=_is_delta(table_format),
    )
    if isinstance(engine, SparkEngine):
        _check_reach_of_workers(paths)
        check_spark(engine.spark, engine.master)
    if follow is not None:
        _check_follow(on_spark=on_spark, in_parquet=paths.columns is not None, dry_run=dry_run)
    if on_spark and paths.keep:
        _check_keep_on_spark(paths)
    listing = _check(paths, on_spark=on_spark, may_be_empty=follow is not None)
    far = on_spark and _is_far(paths)
    kept = _kept(paths)
    labelling = _labelling(label, paths, on_spark=on_spark, overwrite=resume.overwrite)
    delivery = engine.delivery if isinstance(engine, SparkEngine) else None
    built, location = open_encoder(encoder, delivery)
    job = Job(
        paths,
        built,
        labelling.rule,
        decode,
        label_rule=labelling.text,
        overwrite=resume.overwrite,
        retry_failed=resume.retry_failed,
        prune=resume.prune,
        missing=_missing(resume),
        dry_run=dry_run,
        image_timeout_s=_image_timeout_s(engine, built),
        wave_files=engine.wave_files if isinstance(engine, SparkEngine) else None,
        encoder_location=location,
        kept=kept,
        started=started,
    )
    if isinstance(engine, LocalEngine):
        from pomona.local import run
        from pomona.local.follow import follow as follow_source

        with _system_errors():
            if follow is not None:
                follow_source(job, follow, engine.workers, progress)
            return run.extract(job, engine.workers, progress, listing)
    from pomona.spark import run as spark_engine

    early = None
    if not far and engine.spark is None and active_session() is None:
        if dry_run:
            return rehearse(job, listing)
        early = EarlyPlan.of(job, listing)  # takes 1 s for 70,000 files; Spark takes 8 s to start
        if not early.has_work():
            return early.summary()
    with session(engine.spark, engine.master) as active:
        with spark_errors(EngineError, "Spark cannot reach `source` or `table`"):
            images, rows = choose_stores(paths, active, None if early else listing)
            job = _labelled_far_away(job, label, rows, active)
        with _system_errors():
            return spark_engine.extract(job, images, rows, active, progress, early=early)


def _image_timeout_s(engine: LocalEngine | SparkEngine, encoder: Encoder) -> float:
    """Return the seconds that an image may take: longer than a server may be away."""
    given = engine.image_timeout_s or IMAGE_TIMEOUT_S
    return given if encoder.endpoint is None else given + encoder.endpoint.deadline_s


def _is_delta(table_format: str | None) -> bool:
    """Return whether a new table becomes a Delta table.

    Raises:
        UsageError: there is no such format, or the package for it is missing.
    """
    if table_format not in {None, "parquet", "delta"}:
        raise UsageError(f"`table_format` {table_format!r}, expected parquet or delta")
    if table_format != "delta":
        return False
    check_extra("delta", "`table_format` delta needs deltalake", "deltalake", error=TableError)
    return True


def _check_follow(*, on_spark: bool, in_parquet: bool, dry_run: bool) -> None:
    """Refuse what cannot be followed.

    Raises:
        EngineError, SourceError, UsageError: it cannot.
    """
    if on_spark:
        raise EngineError(
            "`follow` is for the embedded engine: on Spark, give a streaming DataFrame to "
            "pomona.featurize"
        )
    if in_parquet:
        raise SourceError(
            "`follow` cannot be used with `image_column`, because each look would read all images: "
            "repeat the command without it"
        )
    if dry_run:
        raise UsageError("`follow` and `dry_run` cannot be used together: leave one out")


def _columns(
    image_column: str | None, key_column: str | None, keep: tuple[str, ...], paths: JobPaths
) -> ImageColumns | None:
    """Return the columns of images in Parquet files.

    Raises:
        SourceError: `key_column` was given alone, or with patterns for files.
    """
    if image_column is None:
        if key_column is not None:
            raise SourceError(f"`key_column` {key_column} needs `image_column`: give both")
        return None
    if paths.selection != KNOWN_IMAGES:
        raise SourceError("`globs` and `exclude` choose files, and not rows of `image_column`")
    return ImageColumns(image_column, key_column, keep)


def _check_keep_on_spark(paths: JobPaths) -> None:
    """Check that the rows can have columns of the source.

    Raises:
        SourceError: the source has none.
        TableError: Java writes the table.
    """
    if is_read_by_hadoop(paths):
        raise has_no_columns(paths.keep)
    if is_remote(paths.table):
        raise TableError(
            f"`keep` {','.join(paths.keep)} needs a `table` that Spark's workers write: give a "
            "path that all machines see"
        )


def _kept(paths: JobPaths) -> pa.Schema:
    """Return the columns of the source that the rows have."""
    if paths.columns is not None:
        return table_images(paths.source, paths.columns).kept()
    images = images_of(paths) if paths.keep else None
    return images.kept() if isinstance(images, ImageList) else NOTHING


def _column_labels(rule: ColumnLabels, paths: JobPaths) -> ColumnLabels:
    """Return the rule with the labels in a column beside the images.

    Raises:
        UsageError: the images are files.
        SourceError: there is no such column.
    """
    images = images_of(paths)
    if not isinstance(images, TableImages | Archives | ImageList):
        raise UsageError(
            f"`label` column:{rule.column} is for images in Parquet files, archives or lists: give "
            "`image_column`, or another `label`"
        )
    return replace(rule, labels=images.labels(rule.column))


def _patterns(patterns: str | Sequence[str]) -> tuple[str, ...]:
    return (patterns,) if isinstance(patterns, str) else tuple(patterns)


def _at_home(path: str | os.PathLike[str]) -> str:
    """Return a path or a URI with a leading `~` replaced."""
    return os.path.expanduser(os.fspath(path))  # noqa: PTH111 - a URI is not a Path


@contextmanager
def _system_errors() -> Iterator[None]:
    """Convert errors of a full or broken disk to a `RunError`."""
    try:
        yield
    except OSError as error:
        if stopped := _stop_before(error):
            raise stopped from None
        where = error.filename or "the system"
        raise RunError(f"{where}: {error.strerror or error}; rows written so far stay") from error


def _stop_before(error: BaseException) -> BaseException | None:
    """Return Ctrl-C or SIGTERM if an error occurred only while cleaning up after it."""
    earlier = error.__context__
    while earlier and not isinstance(earlier, (KeyboardInterrupt, SystemExit)):
        earlier = earlier.__context__
    return earlier


def _missing(resume: Resume) -> Missing:
    gone = resume.gone
    folders = [gone] if isinstance(gone, (str, os.PathLike)) else gone
    named = (local_path(os.fspath(folder)) for folder in folders)
    absolute = tuple(os.path.abspath(folder) for folder in named)  # noqa: PTH100
    return Missing(resume.missing, absolute)


def _is_far(paths: JobPaths) -> bool:
    return is_read_by_hadoop(paths) or is_remote(paths.table)


def _check(paths: JobPaths, *, on_spark: bool, may_be_empty: bool) -> Listing | None:
    """Check the table and the source before anything takes time, and begin the listing.

    Spark reaches other file systems through its own settings, so it checks those later.

    Args:
        paths: the source and the table.
        on_spark: whether Spark reads and writes them.
        may_be_empty: whether a source without images is accepted.

    Returns:
        The listing for the run; None if Spark lists the source.

    Raises:
        SourceError, TableError: one of them cannot be used.
    """
    if paths.delta or not (on_spark and is_remote(paths.table)):
        FeatureTable.at(paths.table, delta=paths.delta).check()
    if on_spark and is_read_by_hadoop(paths):
        return None
    listing = Listing.of(images_of(paths))
    if not may_be_empty:
        listing.check()
    return listing


def _labelling(label: str | None, paths: JobPaths, *, on_spark: bool, overwrite: bool) -> Labelling:
    """Return the label rule, checked as far as possible without Spark."""
    if label is None and overwrite:
        return Labelling.choose(None, lambda: "parent")

    def recorded() -> str | None:
        if on_spark and is_remote(paths.table):
            return None
        return read_label_rule(FeatureTable.at(paths.table).store)

    chosen = Labelling.choose(label, recorded)
    if isinstance(chosen.rule, ColumnLabels):
        return replace(chosen, rule=_column_labels(chosen.rule, paths))
    if on_spark and _is_far(paths):
        return chosen
    return chosen.checked(lambda: (file.uri for file in images_of(paths).files(lambda _: None)))


def _labelled_far_away(job: Job, label: str | None, rows: TableStore, spark: SparkSession) -> Job:
    """Return the job with its label rule checked, for images or a table on other file systems."""
    if not _is_far(job.paths):
        return job
    chosen = Labelling(job.label, job.label_rule, was_asked=label is not None)
    if label is None and not job.overwrite:
        chosen = Labelling.choose(None, rows.read_label_rule)

    def uris() -> Iterator[str]:
        images, _ = choose_stores(job.paths, spark)  # its listing is read once
        return (file.uri for file in images.listing.files())

    chosen = chosen.checked(uris)
    return replace(job, label=chosen.rule, label_rule=chosen.text)


def _paths(source: str, table: str, selection: Selection, *, on_spark: bool) -> JobPaths:
    """Return the paths of source and table in their canonical spelling.

    Raises:
        SourceError, TableError: the engine cannot use a path.
    """
    for path, what, failure in (
        (source, "`source`", SourceError),
        (table, "`table`", TableError),
    ):
        check_spelling(path, what, failure)
        if on_spark:
            check_unambiguous(path, what, failure)
        elif is_remote(path) and needs_jvm(RemotePlace.of(canonical(path))[0].top):
            advice = "add `master` to use Spark"
            if path.startswith("hdfs:"):
                advice += ", or give webhdfs://HOST:9870/..."
            reason = elsewhere(path, advice)
            raise failure(f"{what} {without_password(path)} {reason}")
    return JobPaths(canonical(source), canonical(table), selection)


def _check_reach_of_workers(paths: JobPaths) -> None:
    """Check that Spark's workers can read the source, if Hadoop does not.

    Raises:
        SourceError: it is on a file system that needs Java.
    """
    source = paths.source
    if not is_remote(source) or is_read_by_hadoop(paths):
        return
    if needs_jvm(RemotePlace.of(source)[0].top):
        advice = (
            "Spark's workers read archives, lists and images in Parquet files without Java, so "
            "copy it to a path that all machines see, or to s3, gs or abfs"
        )
        raise SourceError(f"`source` {without_password(source)} {elsewhere(source, advice)}")
