"""`pomona extract`: images -> feature table."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Literal, NoReturn

import click

from pomona.cli.console import AS_JSON, NO_VECTOR, fail, results_follow, say
from pomona.cli.options import (
    ENDPOINT,
    FOLLOW,
    LAYER,
    MAX_PIXELS,
    PRECISIONS,
    RUNTIME,
    SIGNATURE,
    TRUST,
    WEIGHTS,
    warn_of_untrained,
)
from pomona.cli.paths import as_label_rule, as_path
from pomona.cli.run_summary import in_one_line, in_words
from pomona.cli.sections import SectionedCommand
from pomona.encoder.names import DEFAULT_MODEL
from pomona.errors import EncoderError, EngineError
from pomona.io.location import shell_word

if TYPE_CHECKING:
    from collections.abc import Callable

    from pomona.encoder.encoder import Encoder
    from pomona.job.options import Delivery
    from pomona.job.summary import Summary

__all__ = ["extract"]

_BROKEN_PIPE = 141  # the exit code of a filter whose reader has gone


@click.command(
    cls=SectionedCommand,
    sections={
        "Images": "--glob --exclude --label --decode --max-pixels --image-timeout --private-urls",
        "Images in Parquet files": "--image-column --key-column --keep",
        "Network": "--model --weights --layer --signature --precision --runtime --trust --encoder "
        "--endpoint",
        "New table": "--format",
        "Existing table": "--retry-failed --prune --missing --gone --overwrite",
        "Images that keep coming": "--follow",
        "Engine": "--workers --engine --master --wave-files --delivery",
        "Output": "--dry-run --json",
    },
    short_help="Turn images into a feature table, or continue one.",
    epilog="Example: pomona extract photos/ features/ --label parent",
)
@click.argument("source", type=as_path)
@click.argument("table", type=as_path)
@click.option(
    "--model",
    type=as_path,
    metavar="NETWORK",
    help="A name that 'pomona models' lists, or a network's FILE: see 'pomona encoder build'.  "
    f"[default: {DEFAULT_MODEL}]",
)
@WEIGHTS
@LAYER
@SIGNATURE
@TRUST
@RUNTIME
@click.option(
    "--encoder",
    type=as_path,
    metavar="FILE",
    help="Path or URI of an encoder from 'pomona encoder build', instead of --model and --weights.",
)
@ENDPOINT
@click.option(
    "--delivery",
    type=click.Choice(["broadcast", "file"]),
    help="Spark: send the encoder to the workers, or let them read its FILE themselves.  "
    "[default: file for a URI such as s3a://..., else broadcast]",
)
@click.option(
    "--precision",
    type=PRECISIONS,
    help="bf16 is faster and changes the features; int8 needs --encoder.  [default: f32]",
)
@click.option(
    "--label",
    type=as_label_rule,
    metavar="RULE",
    help="parent (the folder's name), none, regex:PATTERN (its first group), csv:FILE, "
    "csv:FILE:path=COLUMN,label=COLUMN, or column:COLUMN for tables, lists and archives. Also "
    "changes the labels of existing rows.  [default: the last --label for TABLE, else parent]",
)
@click.option(
    "--glob",
    "globs",
    multiple=True,
    metavar="PATTERN",
    help="Select files by name instead of by the known extensions. May be repeated.",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Exclude files and folders: a name, a pattern (*.mov), a folder (drafts/) or a path "
    "below SOURCE (2019/raw/*). May be repeated.",
)
@click.option(
    "--image-column",
    metavar="COLUMN",
    help="SOURCE is a Parquet file, a folder of them, or a Delta table, with images in this "
    "column: binary, or a struct with bytes.",
)
@click.option(
    "--key-column",
    metavar="COLUMN",
    help="The column that identifies an image there, which becomes its path in TABLE.  "
    "[default: the struct's path]",
)
@click.option(
    "--keep",
    metavar="COLUMNS",
    help="Other columns there, or of a list, separated by commas, that the rows of TABLE get.",
)
@click.option(
    "--format",
    "table_format",
    type=click.Choice(["parquet", "delta"]),
    help="What a new TABLE is: plain Parquet files (the default), or a Delta table on a path.",
)
@click.option(
    "--private-urls",
    is_flag=True,
    help="URLs in a list may lead to addresses that are not public, such as 10.0.0.1 or localhost.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "spark"]),
    default="local",
    show_default=True,
    help="Processes on this machine, or Apache Spark.",
)
@click.option(
    "--master",
    metavar="URL",
    help="Spark's master: local[4], spark://host:7077, yarn, sc://host:15002.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), help="Processes on this machine.  [default: cores]"
)
@click.option(
    "--decode",
    type=click.Choice(["exact", "fast"]),
    default="exact",
    show_default=True,
    help="fast scales large JPEGs down while it decodes them; features differ slightly.",
)
@MAX_PIXELS
@click.option(
    "--image-timeout",
    "image_timeout_s",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help="An image that takes longer is recorded as crashed.  [default: 120]",
)
@click.option(
    "--wave-files",
    type=click.IntRange(min=1),
    metavar="N",
    help="Spark: files in one commit. A lost driver costs the work of the running commits.  "
    "[default: 20,000 for each core, at most 200,000]",
)
@click.option("--overwrite", is_flag=True, help="Replace the table instead of continuing it.")
@click.option("--retry-failed", is_flag=True, help="Compute images without a vector again.")
@click.option(
    "--prune",
    is_flag=True,
    help="Delete rows of images that were in SOURCE and no longer exist or are excluded. Rows "
    "below a folder that is empty now stay, because a disk may be unmounted.",
)
@click.option(
    "--missing",
    is_flag=True,
    help="With --prune: also delete rows of other sources if their file no longer exists.",
)
@click.option(
    "--gone",
    multiple=True,
    type=as_path,
    metavar="FOLDER",
    help="With --prune: FOLDER was deleted, not just unmounted: delete its rows. May be repeated.",
)
@FOLLOW
@click.option("--dry-run", is_flag=True, help="Show what a run would do, and write nothing.")
@AS_JSON
def extract(
    *,
    source: str,
    table: str,
    model: str | None,
    weights: str | None,
    layer: str | None,
    signature: str | None,
    trust: bool,
    runtime: str | None,
    precision: str | None,
    encoder: str | None,
    endpoint: str | None,
    delivery: Delivery | None,
    label: str | None,
    globs: tuple[str, ...],
    exclude: tuple[str, ...],
    image_column: str | None,
    key_column: str | None,
    keep: str | None,
    table_format: Literal["parquet", "delta"] | None,
    private_urls: bool,
    engine: str,
    master: str | None,
    workers: int | None,
    decode: str,
    max_pixels: int,
    image_timeout_s: float | None,
    wave_files: int | None,
    overwrite: bool,
    retry_failed: bool,
    prune: bool,
    missing: bool,
    gone: tuple[str, ...],
    follow: float | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Turn the images of SOURCE into the feature table TABLE, one row for every file.

    SOURCE is a folder, an image, or a quoted glob, on this machine or in a bucket
    (s3://bucket/photos); a tar or zip file of images, or a quoted glob or a folder of such files; a
    list of images (.txt, .csv, .parquet) or the manifest.json of S3 Inventory; or, with
    --image-column, Parquet files that contain images. If TABLE exists, the run continues it: it
    computes only new and changed images.
    """
    from pomona.building.build import build_encoder, is_network
    from pomona.building.network_settings import NetworkSettings
    from pomona.building.quantize.precision import check_precision, convert_encoder
    from pomona.cli.progress import progress_bar
    from pomona.encoder.encoder import Encoder
    from pomona.encoder.endpoint import Endpoint
    from pomona.extraction import extract as run
    from pomona.job.options import Follow, LocalEngine, Resume, SparkEngine
    from pomona.worker.prepare import DecodeOptions

    def build() -> Encoder:
        _refuse_int8(precision)
        check_precision(precision or "f32")
        full = build_encoder(
            model or DEFAULT_MODEL,
            weights,
            settings=NetworkSettings(layer=layer, signature=signature),
            trust=trust,
            runtime=runtime or "openvino",
        )
        return convert_encoder(full, precision or "f32")

    warn_of_untrained(weights)
    on_spark = engine == "spark" or master is not None
    _check_engine(
        {"--workers": workers},
        {"--wave-files": wave_files, "--delivery": delivery},
        on_spark=on_spark,
    )
    if encoder is not None:
        network = {"--model": model, "--weights": weights, "--layer": layer}
        network |= {"--signature": signature, "--runtime": runtime, "--precision": precision}
        _refuse_beside_encoder([name for name, value in network.items() if value])
    given: str | Callable[[], Encoder] = build if encoder is None else encoder
    if encoder is not None and is_network(encoder):
        given = partial(Encoder.load, encoder)  # raises the error: --model is for networks
    chosen = given if endpoint is None else Endpoint(endpoint, given)
    where: LocalEngine | SparkEngine
    if on_spark:
        where = SparkEngine(
            master=master, delivery=delivery, wave_files=wave_files, image_timeout_s=image_timeout_s
        )
    else:
        where = LocalEngine(workers=workers, image_timeout_s=image_timeout_s)
    resume = Resume(
        overwrite=overwrite, retry_failed=retry_failed, prune=prune, missing=missing, gone=gone
    )
    try:
        with ExitStack() as bar:
            progress = bar.enter_context(progress_bar())
            on_run = _prints_runs(source, bar, as_json=as_json)
            summary = run(
                source,
                table,
                encoder=chosen,
                engine=where,
                resume=resume,
                label=label,
                globs=globs,
                exclude=exclude,
                image_column=image_column,
                key_column=key_column,
                keep=keep.split(",") if keep is not None else (),
                table_format=table_format,
                private_urls=private_urls,
                decode=DecodeOptions(max_pixels, fast=decode == "fast"),
                dry_run=dry_run,
                follow=None if follow is None else Follow(on_run=on_run, every_s=follow),
                progress=progress,
            )
    except (KeyboardInterrupt, SystemExit) as stop:
        _exit_stopped(stop, overwrite=overwrite)
    _note_missing_labels(summary)
    results_follow()
    click.echo(json.dumps(summary.to_json()) if as_json else in_words(summary))
    if summary.failed and not summary.ok + summary.skipped + summary.changes.taken_over:
        sys.exit(NO_VECTOR)


def _prints_runs(source: str, bar: ExitStack, *, as_json: bool) -> Callable[[Summary], None]:
    """Return what prints the runs of --follow: the first as any run, each later one in a line.

    If nobody reads stdout any more, it ends the run.
    """
    in_text = in_words

    def on_run(summary: Summary) -> None:
        nonlocal in_text
        if is_first := in_text is in_words:
            bar.close()
            _note_missing_labels(summary)
        try:
            if as_json or summary.files or not is_first:
                click.echo(json.dumps(summary.to_json()) if as_json else in_text(summary))
        except BrokenPipeError:
            sys.exit(_BROKEN_PIPE)
        if is_first:
            say(f"following {shell_word(source)}: Ctrl-C or SIGTERM stops")
        in_text = in_one_line

    return on_run


def _note_missing_labels(summary: Summary) -> None:
    if summary.files and not summary.changes.labelled and summary.label_rule != "none":
        say(f"note: no image has a label: check --label {summary.label_rule}")


def _check_engine(local: dict[str, object], spark: dict[str, object], *, on_spark: bool) -> None:
    """Refuse options of the other engine."""
    given = [name for name, value in (local if on_spark else spark).items() if value is not None]
    if given and on_spark:
        raise EngineError(f"{given[0]} is for the embedded engine: leave it out on Spark")
    if given:
        raise EngineError(
            f"{given[0]} is for Spark: leave it out, or add --engine spark or --master"
        )


def _refuse_int8(precision: str | None) -> None:
    if precision == "int8":
        raise EncoderError(
            "--precision int8 needs an encoder that is calibrated once, so that each run has the "
            "same: 'pomona encoder build MODEL --precision int8 --calibrate IMAGES -o FILE', then "
            "--encoder FILE"
        )


def _refuse_beside_encoder(options: list[str]) -> None:
    if options:
        raise EncoderError(
            "--encoder contains its network and all of its settings: leave "
            f"{', '.join(options)} out"
        )


def _exit_stopped(stop: KeyboardInterrupt | SystemExit, *, overwrite: bool) -> NoReturn:
    """End with the exit code of what stopped the run, and say what the run has kept."""
    code = 130 if isinstance(stop, KeyboardInterrupt) else int(stop.code or 0)
    kept = getattr(stop, "__notes__", [])
    if not kept:
        fail(code, "stopped before any image was done")
    without = " without --overwrite" if overwrite else ""
    fail(code, f"stopped: {kept[0]}; the same command{without} continues")
