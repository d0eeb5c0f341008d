"""The command line: parse, call, print. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import json
import logging
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import click

from pomona._version import __version__
from pomona.commands.classify import classify
from pomona.commands.console import AS_JSON, fail, results_follow, say
from pomona.commands.duplicates import duplicates
from pomona.commands.project import project
from pomona.commands.report import report
from pomona.commands.search import search
from pomona.commands.train import train
from pomona.encoder.cards import DEFAULT_MODEL
from pomona.errors import PomonaError, UsageError

if TYPE_CHECKING:
    from types import FrameType

    from pomona.engines.job import Summary

__all__ = ["app", "main"]

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_LAYER = click.option(
    "--layer",
    metavar="NAME",
    help="Take this layer's output, in a row, in place of the last before the classifier.",
)
_TRUST = click.option(
    "--trust",
    is_flag=True,
    help="Run code that a Keras file holds, such as a Lambda layer's: if you know who made it.",
)
_RUNTIME = click.option(
    "--runtime",
    type=click.Choice(["openvino", "onnxruntime"]),
    help="onnxruntime is for .onnx files, and takes NVIDIA's GPUs.  [default: openvino]",
)
_WEIGHTS = click.option(
    "--weights",
    help="imagenet (downloaded once), drawn (of the package, for mobilenet_v2), a Keras weights "
    "FILE, or untrained:SEED.  "
    "[default: imagenet]",
)
_PRECISIONS = click.Choice(["f32", "bf16", "int8"])
_CALIBRATE = click.option(
    "--calibrate",
    metavar="IMAGES",
    help="For int8: a folder, a glob or an image; up to 300 of them decide its ranges.",
)


class _Size(click.ParamType[tuple[int, int]]):
    """Height and width in pixels: 224 or 240x320."""

    name = "pixels"

    def convert(self, value: Any, *_: Any) -> tuple[int, int]:
        """Parse."""
        sides = str(value).lower().split("x")
        if len(sides) > 2 or not all(side.isdigit() for side in sides):
            self.fail(f"{value!r} is no size: expected 224, or height x width as in 240x320")
        return int(sides[0]), int(sides[-1])


class _Numbers(click.ParamType[tuple[float, float, float]]):
    """One number, or one for each channel: 127.5 or 103.9,116.8,123.7."""

    name = "numbers"

    def convert(self, value: Any, *_: Any) -> tuple[float, float, float]:
        """Parse."""
        try:
            numbers = [float(part) for part in str(value).split(",")]
            first, second, third = numbers * 3 if len(numbers) == 1 else numbers
        except ValueError:
            self.fail(f"{value!r} is neither a number nor three of them with commas between")
        return first, second, third


@click.group(context_settings=_CONTEXT)
@click.version_option(__version__, message="pomona %(version)s")
def app() -> None:
    """Turn trees of images into tables of deep features."""


@app.command(epilog="Example: pomona extract photos/ features/ --label parent")
@click.argument("source")
@click.argument("table")
@click.option(
    "--model",
    help="A name that 'pomona models' lists, or a network's FILE: see 'pomona encoder build'.  "
    f"[default: {DEFAULT_MODEL}]",
)
@_WEIGHTS
@_LAYER
@_TRUST
@_RUNTIME
@click.option(
    "--encoder",
    metavar="FILE",
    help="What 'pomona encoder build' wrote, in place of --model and --weights. A path or a URI.",
)
@click.option(
    "--delivery",
    type=click.Choice(["broadcast", "file"]),
    help="Spark: send the encoder to the workers, or let them read its FILE themselves.  "
    "[default: file for a URI such as s3a://..., else broadcast]",
)
@click.option(
    "--precision",
    type=_PRECISIONS,
    help="bf16 is faster, its features differ; int8 comes with --encoder.  [default: f32]",
)
@click.option(
    "--label",
    default="parent",
    show_default=True,
    help="parent (the folder's name), none, regex:PATTERN (its first group), csv:FILE.",
)
@click.option(
    "--glob",
    "globs",
    multiple=True,
    metavar="PATTERN",
    help="Choose files by name, in place of the known extensions. May be repeated.",
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
    help="fast scales large JPEGs while it decodes them; features differ slightly.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=178_000_000,
    show_default=True,
    help="Larger images are not decoded but recorded as too_large.",
)
@click.option(
    "--image-timeout",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help="An image that takes longer is recorded as crashed.  [default: 120]",
)
@click.option(
    "--wave-files",
    type=click.IntRange(min=1),
    metavar="N",
    help="Spark: files in one commit, which is what a lost driver costs.  "
    "[default: 20,000 for each core]",
)
@click.option("--overwrite", is_flag=True, help="Replace the table instead of continuing it.")
@click.option("--retry-failed", is_flag=True, help="Do images again whose row has no vector.")
@click.option(
    "--prune", is_flag=True, help="Remove rows of images that were in SOURCE and are gone."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@AS_JSON
def extract(
    *,
    source: str,
    table: str,
    decode: str,
    max_pixels: int,
    image_timeout: float | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Turn the images of SOURCE into the feature table TABLE, one row for every file.

    SOURCE is a folder, an image, or a quoted glob. A TABLE that exists is continued: done is what
    has no row, and what has changed since its row was made.
    """
    from pomona.extraction import extract as run
    from pomona.progress import progress_bar
    from pomona.worker import DecodeOptions

    _warn_of_untrained(settings["weights"])
    try:
        with progress_bar() as progress:
            summary = run(
                source,
                table,
                decode=DecodeOptions(max_pixels, fast=decode == "fast"),
                image_timeout_s=image_timeout,
                progress=progress,
                **settings,
            )
    except KeyboardInterrupt:
        without = ", without --overwrite," if settings["overwrite"] else ""
        fail(130, f"stopped; whole part files stay, and the same command{without} continues them")
    results_follow()
    click.echo(json.dumps(summary.to_json()) if as_json else _in_words(summary))


@app.group()
def encoder() -> None:
    """Build encoders, convert them, and show what is in one."""


@encoder.command(
    "build",
    epilog="Example: pomona encoder build mobilenet_v2 --weights fruit.weights.h5 -o fruit.encoder",
)
@click.argument("model")
@_WEIGHTS
@_LAYER
@click.option(
    "--size", type=_Size(), help="Of the network's input: 224, or height x width 240x320."
)
@click.option(
    "--resize",
    type=click.Choice(["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]),
    help="How images are brought to that size.  [default: bicubic]",
)
@click.option(
    "--channel-order", type=click.Choice(["RGB", "BGR"]), help="Of the input.  [default: RGB]"
)
@click.option("--scale", type=float, help="Input = (pixel * scale - mean) / std, pixels 0..255.")
@click.option("--mean", type=_Numbers(), help="One number, or one for each channel: 0.4,0.4,0.4.")
@click.option("--std", type=_Numbers(), help="Likewise.")
@click.option(
    "--layout",
    type=click.Choice(["NCHW", "NHWC"]),
    help="Of the input, where the network does not show it.",
)
@_TRUST
@_RUNTIME
@click.option(
    "--precision",
    type=_PRECISIONS,
    default="f32",
    show_default=True,
    help="bf16 and int8 are faster; their features differ.",
)
@_CALIBRATE
@click.option("-o", "--output", required=True, metavar="FILE", help="Where to write the encoder.")
def encoder_build(
    *,
    model: str,
    weights: str | None,
    trust: bool,
    runtime: str | None,
    precision: str,
    calibrate: str | None,
    output: str,
    **settings: Any,
) -> None:
    """Build the encoder of the network MODEL, and write it to a file.

    MODEL is a name that 'pomona models' lists, with --weights, or the file of a whole network:
    .keras, .h5, .onnx, .tflite, OpenVINO's .xml, or a TensorFlow SavedModel folder. How the input
    of such a network was prepared is said in options, or in a card beside it: fruit.toml beside
    fruit.onnx, with size, resize, channel_order, scale, mean, std, layout and layer.

    The encoder's file holds the network, its weights and its preprocessing. 'pomona extract
    --encoder' takes it, on machines without Keras and without the weights.
    """
    from pomona.building.build import build_encoder
    from pomona.building.precision import check_precision, lower_precision
    from pomona.building.settings import NetworkSettings
    from pomona.presentation import show_encoder

    _warn_of_untrained(weights)
    check_precision(precision, calibrate)
    told = NetworkSettings(**settings)
    built = build_encoder(model, weights, settings=told, trust=trust, runtime=runtime or "openvino")
    built = lower_precision(built, precision, calibrate)
    built.save(output)
    show_encoder(output, built)


@encoder.command(
    "convert",
    epilog="Example: pomona encoder convert fruit.encoder --precision bf16 -o fruit-bf16.encoder",
)
@click.argument("file")
@click.option(
    "--precision", type=click.Choice(["bf16", "int8"]), required=True, help="What to compute in."
)
@_CALIBRATE
@click.option("-o", "--output", required=True, metavar="FILE", help="Where to write the encoder.")
def encoder_convert(file: str, precision: str, calibrate: str | None, output: str) -> None:
    """Write the float32 encoder in FILE in a lower precision: faster, with other features."""
    from pomona.building.precision import lower_precision
    from pomona.encoder.blob import Encoder
    from pomona.presentation import show_encoder

    converted = lower_precision(Encoder.load(file), precision, calibrate)
    converted.save(output)
    show_encoder(output, converted)


@encoder.command("show", epilog="Example: pomona encoder show fruit.encoder")
@click.argument("file")
@AS_JSON
def encoder_show(file: str, *, as_json: bool) -> None:
    """Show what the encoder in FILE is made of, after checking it for damage."""
    from pomona.encoder.blob import Encoder
    from pomona.presentation import show_encoder

    loaded = Encoder.load(file)
    if as_json:
        click.echo(json.dumps(loaded.provenance()))
    else:
        show_encoder(file, loaded)


@app.command(epilog="Example: pomona inspect features/ --json")
@click.argument("table")
@click.option(
    "--rows",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="How many first rows to show.",
)
@AS_JSON
def inspect(table: str, rows: int, *, as_json: bool) -> None:
    """Show what is in the feature table TABLE, and check its vectors.

    The exit code is 1 if a vector has a wrong length, a NaN, or only zeros.
    """
    from pomona.analysis.inspection import inspect_table
    from pomona.presentation import show_inspection
    from pomona.table import FeatureTable

    results_follow()
    found = inspect_table(FeatureTable.at(table), rows)
    if as_json:
        click.echo(json.dumps(found.to_json(), ensure_ascii=False))
    else:
        show_inspection(table, found)
    if not found.check.passed:
        sys.exit(1)


@app.command(epilog="Example: pomona models mobilenet_v2")
@click.argument("model", required=False)
@_TRUST
@AS_JSON
def models(model: str | None, *, trust: bool, as_json: bool) -> None:
    """List the known networks, or show one of them.

    Of one MODEL it shows layers, shapes, parameter counts and preprocessing. MODEL may be the file
    of a network, too: the names of its layers are what --layer takes.
    """
    from pomona.building.build import describe_network, is_network_file
    from pomona.encoder.cards import CARDS, find_card
    from pomona.presentation import show_model, show_models

    results_follow()
    if model is None:
        if as_json:
            click.echo(json.dumps([card.to_json() for card in CARDS.values()]))
        else:
            show_models(CARDS.values())
        return
    card = None if is_network_file(model) else find_card(model)
    network = describe_network(model, trust=trust)
    if as_json:
        click.echo(json.dumps({**(card.to_json() if card else {"name": model}), **network}))
    else:
        show_model(model, card, network)


app.add_command(train)
app.add_command(classify)
app.add_command(search)
app.add_command(duplicates)
app.add_command(project)
app.add_command(report)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; the process ends with its exit code.

    0: done. 1: a run could not go on, or a check failed. 2: bad use, one line on stderr, nothing
    written. 130 and 143: stopped by Ctrl-C or SIGTERM; whole part files stay.
    """
    _log_to_stderr()
    with _signals():
        _run(arguments)


@contextmanager
def _signals() -> Iterator[None]:
    """End in good order on SIGTERM; afterwards, give the caller its own handlers back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGPIPE)}
    signal.signal(signal.SIGTERM, _on_terminate)
    try:
        yield
    finally:
        sys.stdout.flush()
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(arguments: list[str] | None) -> NoReturn:
    try:
        code = app(arguments, "pomona", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "pomona"
        fail(2, f"{error.format_message()} (see {where} --help)")
    except (UsageError, click.ClickException) as error:
        fail(2, str(error))
    except PomonaError as error:
        fail(1, str(error))
    except (KeyboardInterrupt, click.Abort):
        fail(130, "stopped")
    except OSError as error:
        fail(1, f"{error.filename or 'the system'}: {error.strerror or error}")
    sys.exit(code if isinstance(code, int) else 0)


class _CurrentStderr(logging.StreamHandler[Any]):
    """Writes to what stderr is now: the progress bar puts lines above itself that way."""

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, _: object) -> None:
        pass


def _log_to_stderr() -> None:
    """Show what Pomona logs; what libraries below it log is in the errors already."""
    handler = _CurrentStderr()
    handler.setFormatter(logging.Formatter("pomona: %(message)s"))
    log = logging.getLogger("pomona")
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    logging.getLogger("py4j").setLevel(logging.CRITICAL)


def _in_words(summary: Summary) -> str:
    changes = summary.changes
    to_do = changes.new + changes.changed + changes.retried
    kinds = {"new": changes.new, "changed": changes.changed, "failed before": changes.retried}
    told = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
    if summary.dry_run:
        lines = [f"would do {to_do:,} images" + (f": {told}" if told else "")]
        lines[0] += f"; {summary.skipped:,} already done"
    else:
        lines = [
            f"{summary.ok + summary.failed:,} images in {summary.seconds:.1f} s "
            f"({summary.images_per_second:.0f} images/s): {summary.ok:,} ok, "
            f"{summary.failed:,} failed"
            + (f", {summary.skipped:,} already done" if summary.skipped else "")
        ]
        if to_do > changes.new:
            lines.append(f"of these: {told}")
    failures = {k: v for k, v in sorted(summary.by_status.items()) if k != "ok"}
    if failures:
        told = ", ".join(f"{count:,} {status}" for status, count in failures.items())
        lines.append(f"failed: {told}; the column 'error' says why")
    if summary.unlisted:
        lines.append(f"not listed: {'; '.join(summary.unlisted[:3])}")
    if changes.pruned:
        would = "would be" if summary.dry_run else "were"
        lines.append(f"gone: {changes.pruned:,} rows whose images are no more {would} removed")
    elif changes.gone:
        lines.append(f"gone: {changes.gone:,} images are no more; --prune removes their rows")
    lines.append(f"table: {summary.table} (encoder {summary.encoder[:12]})")
    if not summary.dry_run:
        lines.append(f"next: pomona inspect {shlex.quote(summary.table)}")
    return "\n".join(lines)


def _warn_of_untrained(weights: str | None) -> None:
    if weights and weights.startswith("untrained:"):
        say("note: untrained weights make features that mean little; use them to try things out")


def _on_terminate(_number: int, _frame: FrameType | None) -> Any:
    sys.exit(143)
