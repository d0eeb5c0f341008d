"""`pomona classify`: a label and its probability for each image."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from pomona.cli.console import AS_JSON, NO_VECTOR, results_follow, say, shown
from pomona.cli.options import ENDPOINT, MAX_PIXELS
from pomona.cli.parameters import in_options
from pomona.cli.paths import as_path
from pomona.cli.sections import SectionedCommand
from pomona.messages import count_of

if TYPE_CHECKING:
    from pomona.analysis.classifier.classifier import Classifier
    from pomona.classification import Prediction

__all__ = ["Columns", "classify", "print_csv"]


@click.command(
    cls=SectionedCommand,
    sections={
        "Labels in words, without a classifier": "--labels --template",
        "Images": "--encoder --weights --endpoint --max-pixels --workers",
        "Output": "--top --probabilities --unlike --json",
    },
    short_help="Predict the label of each image, with its probability.",
    epilog="Example: pomona classify fruit.classifier photos/ > labels.csv",
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
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Print the N most probable labels.",
)
@click.option("--probabilities", is_flag=True, help="Print the probability of every class.")
@click.option(
    "--unlike",
    is_flag=True,
    help="Print how near each image is to those of the training. Images of none of the classes are "
    "near 0, whatever their probability; of images like those of the training, 1 % are below 0.01.",
)
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
    top: int,
    probabilities: bool,
    unlike: bool,
    as_json: bool,
) -> None:
    """Predict the label of each image of SOURCE, with the classifier in the file CLASSIFIER.

    With --labels, no CLASSIFIER is needed: the encoder, such as CLIP, compares each image with a
    sentence for each label (zero-shot).

    SOURCE is a folder, an image, a quoted glob, or a feature table of the same encoder. The output
    is CSV with a header: path, label, probability, status and error. Images that cannot be read
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
            top=None if probabilities else top,
            unlike=unlike,
            progress=progress,
        )
        first = next(found, None)  # the work on images is done when the first answer comes
    results_follow()
    predictions = _counted(first, found, counts)
    columns = Columns(
        top=min(top, len(given.classes)),
        classes=given.classes if probabilities else (),
        unlike=unlike,
    )
    if as_json:
        _print_json(classifier if labels is None else None, predictions, columns)
    else:
        print_csv(predictions, columns)
    _print_counts(counts)


@dataclass(frozen=True, slots=True)
class Columns:
    """What is printed of a prediction.

    Attributes:
        top: number of labels.
        classes: the classes whose probability is printed, too.
        unlike: whether the nearness is printed.
    """

    top: int
    classes: tuple[str, ...]
    unlike: bool

    def names(self) -> list[str]:
        """Return the header."""
        more = range(2, self.top + 1)
        return [
            *("path", "label", "probability"),
            *(f"{name}_{place}" for place in more for name in ("label", "probability")),
            *(["nearness"] if self.unlike else []),
            *("status", "error"),
            *(f"probability of {name}" for name in self.classes),
        ]

    def fields(self, answer: Prediction) -> list[str]:
        """Return the fields of a line."""
        top: list[tuple[str, float | None]] = [*answer.top[: self.top]]
        top += [("", None)] * (self.top - len(top))
        probability_of = dict(answer.top)
        return [
            answer.path,
            *(field for label, value in top for field in (label, _number(value))),
            *([_number(answer.nearness)] if self.unlike else []),
            *(answer.status, in_options(answer.error or "")),
            *(_number(probability_of.get(name)) for name in self.classes),
        ]

    def values(self, answer: Prediction) -> dict[str, Any]:
        """Return the object of `--json`."""
        found = asdict(answer)
        if self.top == 1 and not self.classes:
            del found["top"]
        if not self.unlike:
            del found["nearness"]
        return found


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _classifier_and_source(
    first: str,
    second: str | None,
    *,
    labels: str | None,
    template: str | None,
    encoder: str | None,
    weights: str | None,
) -> tuple[Classifier, str]:
    from pomona.analysis.classifier.classifier import Classifier
    from pomona.analysis.classifier.zero_shot import TEMPLATE
    from pomona.classification import zero_shot_for

    if labels is None:
        if template is not None:
            raise click.UsageError("--template is for --labels: leave it out")
        if second is None:
            raise click.UsageError("expected CLASSIFIER and SOURCE, got 1 argument")
        return Classifier.load(first), second
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


class _Lines:
    """Ends the lines of a CSV writer by LF, for other programs of the command line."""

    def write(self, line: str) -> None:
        click.echo(line.removesuffix("\r\n"))


def print_csv(predictions: Iterator[Prediction], columns: Columns) -> None:
    """Print a header and a line for each prediction."""
    writer = csv.writer(_Lines())  # quotes a line break of any kind only if it ends lines by CRLF
    writer.writerow(columns.names())
    for answer in predictions:
        fields = columns.fields(answer)
        # A name may contain commands for a terminal. A file gets it as it is.
        writer.writerow(map(shown, fields) if sys.stdout.isatty() else fields)


def _print_json(
    classifier: str | None, predictions: Iterator[Prediction], columns: Columns
) -> None:
    """Print one object piece by piece, so that a million images need not fit into memory."""
    click.echo(f'{{"classifier": {json.dumps(classifier, ensure_ascii=False)}, "images": [')
    ends = ""
    for answer in predictions:
        click.echo(f"{ends}{json.dumps(columns.values(answer), ensure_ascii=False)}", nl=False)
        ends = ",\n"
    click.echo("]}")


def _print_counts(counts: Counter[str]) -> None:
    failed = {status: n for status, n in sorted(counts.items()) if status != "ok"}
    bad = ", ".join(f"{n:,} {status}" for status, n in failed.items())
    say(f"classified {count_of(counts['ok'], 'image')}" + (f"; failed: {bad}" if bad else ""))
    if failed and not counts["ok"]:
        sys.exit(NO_VECTOR)
