"""`pomona classify`: a label and its probability for each image."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from pomona.cli.console import AS_JSON, NO_VECTOR, results_follow, say
from pomona.cli.options import ENDPOINT, MAX_PIXELS
from pomona.cli.parameters import in_options
from pomona.cli.paths import as_path
from pomona.cli.sections import SectionedCommand
from pomona.messages import count_of

if TYPE_CHECKING:
    from pomona.analysis.classifier.classifier import Classifier
    from pomona.classification import Prediction

__all__ = ["classify"]


@click.command(
    cls=SectionedCommand,
    sections={
        "Labels in words, without a classifier": "--labels --template",
        "Images": "--encoder --weights --endpoint --max-pixels --workers",
        "Output": "--json",
    },
    short_help="Predict the label of each image, with its probability.",
    epilog="Example: pomona classify fruit.classifier photos/ > labels.tsv",
)
@click.argument("classifier", type=as_path, metavar="[CLASSIFIER]")
@click.argument("source", required=False, type=as_path, metavar="SOURCE")
@click.option(
    "--labels",
    metavar="LABEL,LABEL...",
    help="Choose among these words, in place of CLASSIFIER: apple,kiwi,quince. The encoder needs a "
    "text tower.",
)
@click.option(
    "--template",
    metavar="SENTENCE",
    help="The sentence for a label, with {}.  [default: This is a photo of {}.]",
)
@click.option(
    "--encoder",
    type=as_path,
    metavar="FILE",
    help="For images: the encoder of the training table, if CLASSIFIER does not contain it. With "
    "--labels: the encoder for images and texts.",
)
@click.option(
    "--weights",
    type=as_path,
    metavar="FILE",
    help="For images: the network's weights file, if the encoder has to be built again.",
)
@ENDPOINT
@click.option(
    "--workers", type=click.IntRange(min=1), help="Processes for images.  [default: cores]"
)
@MAX_PIXELS
@AS_JSON
def classify(
    *,
    classifier: str,
    source: str | None,
    labels: str | None,
    template: str | None,
    encoder: str | None,
    weights: str | None,
    endpoint: str | None,
    workers: int | None,
    max_pixels: int,
    as_json: bool,
) -> None:
    """Predict the label of each image of SOURCE, with the classifier in the file CLASSIFIER.

    With --labels, no CLASSIFIER is needed: the encoder, such as CLIP, compares each image with a
    sentence for each label (zero-shot).

    SOURCE is a folder, an image, a quoted glob, or a feature table of the same encoder. Each line
    has path, label, probability, status and error, separated by tabs. Images that cannot be read
    have no label: their status and error give the reason.
    """
    from pomona.classification import classify as run
    from pomona.cli.progress import progress_bar
    from pomona.encoder.endpoint import Endpoint

    given, images = _classifier_and_source(
        classifier, source, labels=labels, template=template, encoder=encoder, weights=weights
    )
    if labels is not None:
        encoder = None  # the classifier contains it
    counts: Counter[str] = Counter()
    with progress_bar() as progress:
        found = run(
            given,
            images,
            encoder=encoder if endpoint is None else Endpoint(endpoint, encoder),
            weights=weights,
            workers=workers,
            max_pixels=max_pixels,
            progress=progress,
        )
        first = next(found, None)  # the work on images is done when the first answer comes
    results_follow()
    predictions = _counted(first, found, counts)
    if as_json:
        _print_json(classifier if labels is None else None, predictions)
    else:
        for answer in predictions:
            click.echo("\t".join(_words(answer)))
    _print_counts(counts)


def _classifier_and_source(
    first: str,
    second: str | None,
    *,
    labels: str | None,
    template: str | None,
    encoder: str | None,
    weights: str | None,
) -> tuple[Classifier | str, str]:
    from pomona.analysis.classifier.zero_shot import TEMPLATE
    from pomona.classification import zero_shot_for

    if labels is None:
        if template is not None:
            raise click.UsageError("--template is for --labels: leave it out")
        if second is None:
            raise click.UsageError("expected CLASSIFIER and SOURCE, got 1 argument")
        return first, second
    if second is not None:
        raise click.UsageError("--labels replaces CLASSIFIER: expected SOURCE alone")
    if weights is not None:
        raise click.UsageError("--weights has no effect with --labels: leave it out")
    words = [word for label in labels.split(",") if (word := label.strip())]
    return zero_shot_for(first, words, template or TEMPLATE, encoder), first


def _counted(
    first: Prediction | None, rest: Iterable[Prediction], counts: Counter[str]
) -> Iterator[Prediction]:
    if first is not None:
        counts[first.status] += 1
        yield first
    for answer in rest:
        counts[answer.status] += 1
        yield answer


def _words(answer: Prediction) -> list[str]:
    """Return the fields of a line without tabs and line breaks, which a name may contain."""
    probability = "" if answer.probability is None else f"{answer.probability:.4f}"
    error = in_options(answer.error or "")
    fields = [answer.path, answer.label or "", probability, answer.status, error]
    return ["".join(c if c.isprintable() else "?" for c in field) for field in fields]


def _print_json(classifier: str | None, predictions: Iterator[Prediction]) -> None:
    """Print one object piece by piece, so that a million images need not fit into memory."""
    click.echo(f'{{"classifier": {json.dumps(classifier, ensure_ascii=False)}, "images": [')
    ends = ""
    for answer in predictions:
        click.echo(f"{ends}{json.dumps(asdict(answer), ensure_ascii=False)}", nl=False)
        ends = ",\n"
    click.echo("]}")


def _print_counts(counts: Counter[str]) -> None:
    failed = {status: n for status, n in sorted(counts.items()) if status != "ok"}
    bad = ", ".join(f"{n:,} {status}" for status, n in failed.items())
    say(f"classified {count_of(counts['ok'], 'image')}" + (f"; failed: {bad}" if bad else ""))
    if failed and not counts["ok"]:
        sys.exit(NO_VECTOR)
