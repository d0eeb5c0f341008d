"""`pomona train`: a table of labelled vectors becomes a classifier."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pomona.cli.console import AS_JSON, results_follow, say
from pomona.cli.paths import as_path
from pomona.cli.progress import steps_bar
from pomona.cli.sections import SectionedCommand
from pomona.io.location import shell_word
from pomona.messages import count_of

if TYPE_CHECKING:
    from pomona.analysis.classifier.evaluation import Evaluation
    from pomona.analysis.classifier.regularization import Strength
    from pomona.analysis.classifier.training import Training

__all__ = ["train"]

_SHOWN_MISTAKES = 5
_SHOWN_CLASSES = 20


@click.command(
    cls=SectionedCommand,
    sections={
        "Training and testing": "--split --test-share --seed --memory",
        "Output": "--output --encoder --plot --json",
    },
    short_help="Train a classifier on the labels of a table.",
    epilog="Example: pomona train features/ -o fruit.classifier --plot confusion.png",
)
@click.argument("table", type=as_path)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    type=as_path,
    help="Where to write the classifier.",
)
@click.option(
    "--split",
    metavar="TRAIN/TEST",
    help="Train on images in folders named TRAIN and test on those in TEST: Training/Testing, or "
    "'train*/val*'.  [default: a random share of each class]",
)
@click.option(
    "--test-share",
    type=click.FloatRange(0, 0.9),
    help="The share of each class to test on; 0 means no test.  [default: 0.2]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Seed of the random share.",
)
@click.option(
    "--encoder",
    type=as_path,
    metavar="FILE",
    help="The encoder that made the table. The classifier's file then contains it, and "
    "'pomona classify' needs no other file.",
)
@click.option(
    "--plot",
    metavar="PICTURE",
    type=as_path,
    help="Draw the confusion matrix into a .png, .svg or .pdf; of more than 20 classes, the images "
    "of those that are confused most.",
)
@click.option(
    "--memory",
    "memory_gib",
    type=click.FloatRange(min=0),
    default=2.0,
    show_default=True,
    metavar="GIB",
    help="If the training vectors take more, they are stored in a file in $TMPDIR.",
)
@AS_JSON
def train(
    *,
    table: str,
    output: str,
    split: str | None,
    test_share: float | None,
    seed: int,
    encoder: str | None,
    plot: str | None,
    memory_gib: float,
    as_json: bool,
) -> None:
    """Train a classifier on the labels of TABLE, test it on other images, and write it to a file.

    It is a logistic regression on the standardised vectors (a linear probe). Cross-validation
    chooses the strength of its regularisation. Images without a vector or a label are skipped.
    """
    from pomona.analysis.classifier.training import train as run
    from pomona.analysis.figures.confusion import plot_confusion
    from pomona.analysis.figures.style import check_plot
    from pomona.table.feature_table import check_output

    if split is not None and test_share is not None:
        raise click.UsageError("--split already chooses the test images: leave --test-share out")
    if plot is not None:
        if test_share == 0:
            raise click.UsageError("--plot draws the result of a test: leave --test-share 0 out")
        check_plot(Path(plot))
    check_output(Path(output))
    with steps_bar() as progress:
        done = run(
            table,
            split=split,
            test_share=0.2 if test_share is None else test_share,
            seed=seed,
            memory_gib=memory_gib,
            encoder=encoder,
            progress=progress,
        )
    done.classifier.save(output)
    if plot is not None and done.evaluation:
        plot_confusion(done.evaluation, plot)
    _print_notes(done)
    results_follow()
    if as_json:
        written = {"classifier": output, "plot": plot}
        click.echo(json.dumps({**written, **done.to_json()}, ensure_ascii=False))
    else:
        _show(done, output, plot)


def _print_notes(done: Training) -> None:
    notes = []
    if done.failed:
        notes.append(f"skipped {count_of(done.failed, 'image')} without a vector")
    if done.unlabelled:
        notes.append(f"skipped {count_of(done.unlabelled, 'image')} without a label")
    if done.outside:
        notes.append(f"skipped {count_of(done.outside, 'image')} in neither folder of --split")
    if done.untested and done.evaluation:
        notes.append(
            f"{count_of(len(done.untested), 'class', 'classes')} without an image to test on: "
            f"{', '.join(done.untested[:5])}{', ...' if done.untested[5:] else ''}"
        )
    if not done.converged:
        notes.append("the solver did not converge: a better classifier may exist")
    if done.in_file:
        notes.append("the vectors did not fit into --memory and were stored in a file")
    for note in notes:
        say(f"note: {note}")


def _show(done: Training, output: str, plot: str | None) -> None:
    strength = done.strength
    how = (
        f"{_end_of_grid(strength)}{strength.folds}-fold cross-validation on "
        f"{count_of(strength.rows, 'image')}"
        if strength.folds
        else "not chosen: too few images"
    )
    click.echo(
        f"trained on {count_of(done.trained_on, 'image')} of "
        f"{count_of(len(done.classifier.classes), 'class', 'classes')} in "
        f"{done.seconds:.1f} s (C = {strength.value:g}, {how})"
    )
    if done.evaluation:
        _show_evaluation(done.evaluation)
    if done.leaks and done.leaks.near:
        click.echo(
            f"leaks: {done.leaks.near:,} of {count_of(done.leaks.compared, 'test image')} are "
            f"nearly the same as a training image (similarity {done.leaks.threshold:g} or more): "
            "new images may be harder"
        )
    click.echo(f"classifier: {output} (encoder {done.classifier.fingerprint[:12]})")
    if plot is not None:
        click.echo(f"plot: {plot}")
    click.echo(f"next: pomona classify {shell_word(output)} IMAGES")


def _end_of_grid(strength: Strength) -> str:
    if not strength.at_end:
        return ""
    smallest = strength.value == min(strength.log_losses)
    which, beyond = ("smallest", "smaller") if smallest else ("largest", "larger")
    return f"the {which} that was tried: a {beyond} one may be better; "


def _show_evaluation(found: Evaluation) -> None:
    from pomona.cli.render import show_columns

    low, high = found.interval
    click.echo(
        f"accuracy: {found.accuracy:.4f}, {found.right:,} of {count_of(found.images, 'image')} "
        f"right (95 % Wilson interval {low:.4f} to {high:.4f})"
    )
    click.echo(f"majority-class baseline: {found.baseline:.4f} (the same label for every image)")
    click.echo(f"calibration error: {found.calibration_error:.4f} (ECE, 15 bins)")
    per_class = found.per_class()
    scores = (
        [score.label, f"{score.images:,}", _share(score.precision), _share(score.recall)]
        for score in per_class[:_SHOWN_CLASSES]
    )
    show_columns(["class, worst first", "images", "precision", "recall"], scores)
    if per_class[_SHOWN_CLASSES:]:
        click.echo(
            f"... {count_of(len(per_class) - _SHOWN_CLASSES, 'more class', 'more classes')}: "
            "see --json"
        )
    if len(per_class) > _SHOWN_CLASSES:
        pairs = (
            [pair.label, pair.predicted, f"{pair.images:,} of {pair.of:,}"]
            for pair in found.confused[:_SHOWN_MISTAKES]
        )
        show_columns(["most confused", "predicted", "images"], pairs)
    if found.mistakes:
        wrong = (
            [mistake.path, mistake.label, mistake.predicted, _share(mistake.probability)]
            for mistake in found.mistakes[:_SHOWN_MISTAKES]
        )
        show_columns(["most confident errors", "label", "predicted", "probability"], wrong)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
