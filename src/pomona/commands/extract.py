"""`pomona extract`: images -> feature table."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import click

from pomona.commands.console import AS_JSON, fail, results_follow, say
from pomona.commands.options import (
    LAYER,
    MAX_PIXELS,
    PRECISIONS,
    RUNTIME,
    SIGNATURE,
    TRUST,
    WEIGHTS,
    warn_of_untrained,
)
from pomona.commands.sections import SectionedCommand
from pomona.encoder.names import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pomona.engines.job import Summary

__all__ = ["extract"]


@click.command(
    cls=SectionedCommand,
    sections={
        "Images": "--glob --exclude --label --decode --max-pixels --image-timeout",
        "Network": "--model --weights --layer --signature --precision --runtime --trust --encoder",
        "A table that exists": "--retry-failed --prune --missing --gone --overwrite",
        "Where it runs": "--workers --engine --master --wave-files --delivery",
        "Output": "--dry-run --json",
    },
    short_help="Turn images into a feature table, or continue one.",
    epilog="Example: pomona extract photos/ features/ --label parent",
)
@click.argument("source")
@click.argument("table")
@click.option(
    "--model",
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
    type=PRECISIONS,
    help="bf16 is faster, its features differ; int8 comes with --encoder.  [default: f32]",
)
@click.option(
    "--label",
    help="parent (the folder's name), none, regex:PATTERN (its first group), csv:FILE, or "
    "csv:FILE:path=COLUMN,label=COLUMN. Also changes labels of rows that exist.  [default: as "
    "the last --label for TABLE, else parent]",
)
@click.option(
    "--glob",
    "globs",
    multiple=True,
    metavar="PATTERN",
    help="Choose files by name, in place of the known extensions. May be repeated.",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Leave out files and folders: a name, a pattern (*.mov), a folder (drafts/) or a path "
    "below SOURCE (2019/raw/*). May be repeated.",
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
@MAX_PIXELS
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
    "[default: 20,000 for each core, at most 200,000]",
)
@click.option("--overwrite", is_flag=True, help="Replace the table instead of continuing it.")
@click.option("--retry-failed", is_flag=True, help="Do images again whose row has no vector.")
@click.option(
    "--prune",
    is_flag=True,
    help="Delete rows of images that were in SOURCE and are gone or excluded.",
)
@click.option(
    "--missing",
    is_flag=True,
    help="With --prune: delete also rows of other sources whose file no longer exists.",
)
@click.option(
    "--gone",
    multiple=True,
    metavar="FOLDER",
    help="With --missing: FOLDER is gone for good, not just unmounted. May be repeated.",
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
    from pomona.prepare import DecodeOptions
    from pomona.progress import progress_bar

    warn_of_untrained(settings["weights"])
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
    if summary.files and not summary.changes.labelled and summary.label_rule != "none":
        say(f"note: no image has a label: what does --label {summary.label_rule} stand for?")
    results_follow()
    click.echo(json.dumps(summary.to_json()) if as_json else _in_words(summary))


def _in_words(summary: Summary) -> str:
    changes = summary.changes
    kinds = {"new": changes.new, "changed": changes.changed, "failed before": changes.retried}
    told = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
    if summary.dry_run:
        lines = [f"would do {changes.to_do:,} images" + (f": {told}" if told else "")]
        lines[0] += f"; {summary.skipped:,} already done"
    else:
        lines = [
            f"{summary.ok + summary.failed:,} images in {summary.seconds:.1f} s "
            f"({summary.images_per_second:.0f} images/s): {summary.ok:,} ok, "
            f"{summary.failed:,} failed"
            + (f", {summary.skipped:,} already done" if summary.skipped else "")
        ]
        if changes.to_do > changes.new:
            lines.append(f"of these: {told}")
    failures = {k: v for k, v in sorted(summary.by_status.items()) if k != "ok"}
    if failures:
        told = ", ".join(f"{count:,} {status}" for status, count in failures.items())
        lines.append(f"failed: {told}; the column 'error' says why")
    if summary.unlisted:
        lines.append(f"not listed: {'; '.join(summary.unlisted[:3])}")
    lines += summary.passed_over.in_words()
    lines += _moves_in_words(summary)
    lines += _labels_in_words(summary)
    if changes.pruned:
        would = "would be" if summary.dry_run else "were"
        lines.append(
            f"gone: {changes.pruned:,} rows whose images no longer exist or are excluded {would} "
            "deleted"
        )
    elif changes.gone:
        lines.append(
            f"gone: {changes.gone:,} images no longer exist or are excluded (use --prune to "
            "delete their rows)"
        )
    lines.append(f"table: {summary.table} (encoder {summary.encoder[:12]})")
    if not summary.dry_run:
        lines.append(f"next: pomona inspect {shlex.quote(summary.table)}")
    return "\n".join(lines)


def _labels_in_words(summary: Summary) -> Iterator[str]:
    changes = summary.changes
    if changes.relabelled:
        would = " would be" if summary.dry_run else ""
        yield f"labels{would} changed: {changes.relabelled:,}"
    if changes.labels_kept:
        yield (
            f"labels kept: {changes.labels_kept:,} rows have another label than their folder's "
            "name (use --label parent to change them)"
        )
    if 0 < changes.labelled < summary.files:
        yield f"labels: {changes.labelled:,} of {summary.files:,} images have a label"


def _moves_in_words(summary: Summary) -> Iterator[str]:
    changes = summary.changes
    if changes.taken_over:
        would = " would be" if summary.dry_run else ""
        yield f"taken over{would}: {changes.taken_over:,} (the table has vectors of the same bytes)"
    if changes.missing_kept:
        folder, rows = changes.absent_folders.most_common(1)[0]
        yield (
            f"kept: {changes.missing_kept:,} rows whose folder does not exist or is empty, "
            f"{rows:,} of them below {folder} (if it is not just unmounted: --gone "
            f"{shlex.quote(folder)})"
        )
