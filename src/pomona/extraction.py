"""The main job: images in, feature table out. Wires encoder, labels and engine together."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pomona.building.build import build_encoder
from pomona.building.network_settings import NetworkSettings
from pomona.building.quantize.precision import check_precision, convert_encoder
from pomona.encoder.encoder import Encoder
from pomona.encoder.names import DEFAULT_MODEL
from pomona.errors import EncoderError, EngineError, RunError, SourceError, TableError, UsageError
from pomona.io.location import (
    canonical,
    check_spelling,
    check_unambiguous,
    elsewhere,
    is_remote,
    local_path,
    without_password,
)
from pomona.job.dry_run import has_work, rehearse
from pomona.job.job import (
    IMAGE_TIMEOUT_S,
    Job,
    JobPaths,
    Progress,
    Summary,
    local_uris,
    no_progress,
)
from pomona.job.plan import Missing
from pomona.source.label_rule import Labelling
from pomona.source.selection import Selection
from pomona.spark.encoder_transport import Delivery, open_encoder
from pomona.spark.errors import spark_errors
from pomona.spark.session.session import active_session, check_spark, session
from pomona.spark.storage.choose import check_local, choose_stores
from pomona.table.feature_table import FeatureTable
from pomona.table.label_record import read_label_rule
from pomona.worker.prepare import EXACT, DecodeOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyspark.sql import SparkSession

    from pomona.spark.storage.choose import TableStore

__all__ = ["extract"]


def extract(  # noqa: PLR0913 - the job's settings, each with a sensible default
    source: str | os.PathLike[str],
    table: str | os.PathLike[str],
    *,
    encoder: Encoder | str | os.PathLike[str] | None = None,
    delivery: Delivery | None = None,
    model: str | None = None,
    weights: str | None = None,
    layer: str | None = None,
    signature: str | None = None,
    trust: bool = False,
    runtime: str | None = None,
    precision: str | None = None,
    label: str | None = None,
    globs: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    decode: DecodeOptions = EXACT,
    overwrite: bool = False,
    retry_failed: bool = False,
    prune: bool = False,
    missing: bool = False,
    gone: Sequence[str | os.PathLike[str]] = (),
    dry_run: bool = False,
    image_timeout_s: float | None = None,
    engine: Literal["local", "spark"] = "local",
    workers: int | None = None,
    wave_files: int | None = None,
    master: str | None = None,
    spark: SparkSession | None = None,
    progress: Progress = no_progress,
) -> Summary:
    """Turn a collection of images into a feature table with one row for every file.

    If the table exists, the run continues it: it computes files without a row, and files that
    changed after their row was made.

    Args:
        source: a folder, an image, or a glob; with Spark, any URI that Hadoop can read.
        table: folder for the feature table.
        encoder: the encoder, or its path or URI. By default it is built from `model` and the six
            parameters after it.
        delivery: on Spark, `broadcast` sends the encoder to the workers; with `file` each worker
            process reads it. The default is `file` for a URI of another file system.
        model: a known network's name, by default `mobilenet_v2`, or a network's file.
        weights: `imagenet` (the default), `drawn`, a Keras weights file, or `untrained:SEED`.
        layer: use this layer's output in place of the last one before the classifier.
        signature: for a TensorFlow SavedModel, the name of the function to use.
        trust: run code in a Keras file, such as a Lambda layer.
        runtime: `openvino` (the default), or `onnxruntime` for an ONNX file.
        precision: `f32` (the default) or `bf16`. For int8, build an encoder first and give it as
            `encoder`.
        label: `parent`, `none`, `regex:PATTERN` or `csv:FILE`; see `pomona.source.label_file`.
            It also changes the labels of existing rows. The default is the rule of an earlier
            run, or `parent` for new rows.
        globs: a pattern for file names, or several, to select files in place of the known
            extensions.
        exclude: a pattern for files and folders to exclude, or several: `*.mov`, `drafts/`,
            `2019/*/raw/**`; see `pomona.source.exclusions`. A file that has a row and is excluded
            now counts as deleted.
        decode: how images become pixels.
        overwrite: replace the table instead of continuing it.
        retry_failed: compute images again whose row has no vector.
        prune: delete rows whose file was in the source and no longer is. Rows stay if the folder
            of the file is empty, because a disk may be unmounted.
        missing: with `prune`, also delete rows of other sources whose file no longer exists. They
            stay if its folder does not exist or is empty, unless a file with the same bytes is in
            the source.
        gone: folders that no longer exist: with `prune`, the rows below them are deleted.
        dry_run: write nothing; the summary's `changes` say what a run would do.
        image_timeout_s: seconds that one image may take before it gets the status `crashed`; by
            default 120.
        engine: `local` for worker processes on this machine, `spark` for Apache Spark.
        workers: worker processes of the embedded engine; by default one for each core.
        wave_files: on Spark, number of files in one commit, which is the work that a lost driver
            costs. The default depends on the cores.
        master: Spark's master; implies `engine="spark"`.
        spark: a session to use; implies `engine="spark"`. By default the active session, or a new
            one that is stopped at the end.
        progress: called with the progress.

    Returns:
        A summary of the run.

    Raises:
        UsageError: the request cannot be done; nothing was written.
        RunError: the run could not continue; rows written so far stay, and another run continues.
    """
    started = time.monotonic()
    on_spark = engine == "spark" or master is not None or spark is not None
    _check_engine(engine, delivery, workers, wave_files, on_spark=on_spark)
    _check_number("image_timeout_s", image_timeout_s, 0.1)
    _check_missing(prune=prune, missing=missing, gone=gone)
    selection = Selection(_patterns(globs), _patterns(exclude))
    paths = _paths(_at_home(source), _at_home(table), selection, on_spark=on_spark)
    if on_spark:
        check_spark(spark, master)
    check_local(paths)
    labelling = _labelling(label, paths, overwrite=overwrite)
    if encoder is None:
        _refuse_int8(precision)
        check_precision(precision or "f32")
        settings = NetworkSettings(layer=layer, signature=signature)
        full = build_encoder(
            model or DEFAULT_MODEL,
            weights,
            settings=settings,
            trust=trust,
            runtime=runtime or "openvino",
        )
        encoder = convert_encoder(full, precision or "f32")
    else:
        beside = {
            "model": model,
            "weights": weights,
            "layer": layer,
            "signature": signature,
            "runtime": runtime,
            "precision": precision,
        }
        _refuse_beside_encoder([f"--{name}" for name, value in beside.items() if value])
    built, location = open_encoder(encoder, delivery)
    job = Job(
        paths,
        built,
        labelling.rule,
        decode,
        label_rule=labelling.text,
        overwrite=overwrite,
        retry_failed=retry_failed,
        prune=prune,
        missing=_missing(missing, gone),
        dry_run=dry_run,
        image_timeout_s=image_timeout_s or IMAGE_TIMEOUT_S,
        wave_files=wave_files,
        encoder_location=location,
        started=started,
    )
    if not on_spark:
        from pomona.local import run

        with _system_errors():
            return run.extract(job, workers, progress)
    from pomona.spark import run as spark_engine

    if not _is_far(paths) and spark is None and active_session() is None:
        rehearsed = rehearse(job)  # a second of 70,000 files, where Spark takes eight to start
        if dry_run or not has_work(job, rehearsed):
            return rehearsed
    with session(spark, master) as active:
        with spark_errors(EngineError, "Spark cannot reach SOURCE or TABLE"):
            images, rows = choose_stores(paths, active)
            job = _labelled_far_away(job, label, rows, active)
        with _system_errors():
            return spark_engine.extract(job, images, rows, active, progress)


def _patterns(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _at_home(path: str | os.PathLike[str]) -> str:
    """A path or a URI, with a leading `~` replaced."""
    return os.path.expanduser(os.fspath(path))  # noqa: PTH111 - a URI is no Path


@contextmanager
def _system_errors() -> Iterator[None]:
    """Turn what a full or broken disk raises into one of ours."""
    try:
        yield
    except OSError as error:
        if stopped := _stop_before(error):
            raise stopped from None
        where = error.filename or "the system"
        raise RunError(f"{where}: {error.strerror or error}; rows written so far stay") from error


def _stop_before(error: BaseException) -> BaseException | None:
    """Ctrl-C or SIGTERM, where an error is only what came of cleaning up after it."""
    earlier = error.__context__
    while earlier and not isinstance(earlier, (KeyboardInterrupt, SystemExit)):
        earlier = earlier.__context__
    return earlier


def _check_engine(
    engine: str,
    delivery: Delivery | None,
    workers: int | None,
    wave_files: int | None,
    *,
    on_spark: bool,
) -> None:
    if on_spark and workers is not None:
        raise EngineError("--workers is for the embedded engine: on Spark, executors decide")
    if not on_spark and wave_files is not None:
        raise EngineError("--wave-files is for Spark: on the embedded engine, leave it out")
    if not on_spark and delivery is not None:
        raise EngineError("--delivery is for Spark: on the embedded engine, leave it out")
    _check_choice("engine", engine, ("local", "spark"))
    _check_choice("delivery", delivery, (None, "broadcast", "file"))
    _check_number("workers", workers, 1)
    _check_number("wave_files", wave_files, 1)


def _check_missing(*, prune: bool, missing: bool, gone: Sequence[str | os.PathLike[str]]) -> None:
    if missing and not prune:
        raise UsageError("--missing goes with --prune: it chooses more rows to delete")
    if gone and not prune:
        raise UsageError("--gone goes with --prune: it names a folder that is gone")
    if not isinstance(gone, (str, os.PathLike)) and "" in gone:
        raise UsageError("--gone: '' is not a folder: expected a path")


def _missing(of_other_sources: bool, gone: Sequence[str | os.PathLike[str]]) -> Missing:
    folders = [gone] if isinstance(gone, (str, os.PathLike)) else gone
    named = (local_path(os.fspath(folder)) for folder in folders)
    absolute = tuple(os.path.abspath(folder) for folder in named)  # noqa: PTH100
    return Missing(of_other_sources, absolute)


def _is_far(paths: JobPaths) -> bool:
    return is_remote(paths.source) or is_remote(paths.table)


def _labelling(label: str | None, paths: JobPaths, *, overwrite: bool) -> Labelling:
    """The label rule, checked as far as that can be done on this machine."""
    if label is None and overwrite:
        return Labelling.choose(None, lambda: "parent")
    table = None if is_remote(paths.table) else FeatureTable.at(paths.table).folder
    chosen = Labelling.choose(label, lambda: read_label_rule(table) if table else None)
    return chosen if _is_far(paths) else chosen.checked(lambda: local_uris(paths))


def _labelled_far_away(job: Job, label: str | None, rows: TableStore, spark: SparkSession) -> Job:
    """The job with its label rule, checked where images or table are on another file system."""
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


def _check_choice(name: str, given: object, choices: tuple[str | None, ...]) -> None:
    if given not in choices:
        raise EngineError(f"{name} is {given!r}: give one of {', '.join(filter(None, choices))}")


def _check_number(name: str, given: float | None, least: float) -> None:
    if given is not None and not given >= least:  # so that NaN is refused as well
        raise EngineError(f"{name} is {given!r}: give a number from {least:g} up")


def _refuse_int8(precision: str | None) -> None:
    if precision == "int8":
        raise EncoderError(
            "--precision int8 is calibrated on images once, or else no run could continue the "
            "table of another: 'pomona encoder build MODEL --precision int8 --calibrate IMAGES "
            "-o FILE', and then --encoder FILE"
        )


def _refuse_beside_encoder(options: list[str]) -> None:
    if options:
        raise EncoderError(
            "--encoder holds its network and all that belongs to it: leave "
            f"{', '.join(options)} out"
        )


def _paths(source: str, table: str, selection: Selection, *, on_spark: bool) -> JobPaths:
    """From where to where, in one spelling.

    Raises:
        SourceError, TableError: an engine cannot go there.
    """
    for given, what, failure in ((source, "SOURCE", SourceError), (table, "TABLE", TableError)):
        check_spelling(given, what, failure)
        if on_spark:
            check_unambiguous(given, what, failure)
        elif is_remote(given):
            told = elsewhere(given, "add --master to go through Spark")
            raise failure(f"{what} {without_password(given)} {told}")
    return JobPaths(canonical(source), canonical(table), selection)
