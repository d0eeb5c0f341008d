"""Options that several commands share, and the kinds of values that they take."""

from __future__ import annotations

from typing import Any

import click

from pomona.cli.console import say
from pomona.cli.paths import as_path

__all__ = [
    "CALIBRATE",
    "ENDPOINT",
    "FOLLOW",
    "LAYER",
    "MAP",
    "MAX_PIXELS",
    "PRECISIONS",
    "RUNTIME",
    "SIGNATURE",
    "THRESHOLD",
    "TRUST",
    "WEIGHTS",
    "Colour",
    "Numbers",
    "Size",
    "warn_of_untrained",
]

LAYER = click.option(
    "--layer",
    metavar="NAME",
    help="Use the output of this layer, flattened, instead of the last layer before the "
    "classifier.",
)
SIGNATURE = click.option(
    "--signature",
    metavar="NAME",
    help="For a TensorFlow SavedModel: the signature to use.  [default: serving_default]",
)
TRUST = click.option(
    "--trust",
    is_flag=True,
    help="Run code in a Keras file, such as a Lambda layer, and read pickles of PyTorch. Only for "
    "files whose author you trust.",
)
RUNTIME = click.option(
    "--runtime",
    type=click.Choice(["openvino", "onnxruntime"]),
    help="onnxruntime is for ONNX files and folders, and uses NVIDIA GPUs.  [default: openvino]",
)
WEIGHTS = click.option(
    "--weights",
    type=as_path,
    metavar="WEIGHTS",
    help="imagenet (downloaded once, except for efficientnet_lite0), a Keras weights FILE, or "
    "untrained:SEED.  [default: imagenet]",
)
MAP = click.option(
    "--map",
    "kind",
    type=click.Choice(["tsne", "pca"]),
    default="tsne",
    show_default=True,
    help="Method of the map: tsne shows groups, pca is quick.",
)
THRESHOLD = click.option(
    "--threshold",
    type=float,
    default=0.8,
    show_default=True,
    help="Two images are near duplicates if their similarity is this or more.",
)
PRECISIONS = click.Choice(["f32", "bf16", "int8"])
CALIBRATE = click.option(
    "--calibrate",
    type=as_path,
    metavar="IMAGES",
    help="For int8: a folder or a glob of images to calibrate with; up to 300 of them are used.",
)


MAX_PIXELS = click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=178_000_000,
    show_default=True,
    help="Larger images are not decoded and get the status too_large.",
)


class _Seconds(click.ParamType):  # type: ignore[type-arg] # generic only since click 8.4
    """Seconds between two looks."""

    name = "seconds"

    def convert(self, value: Any, *_: Any) -> float:
        """Return the seconds."""
        try:
            seconds = float(value)
        except ValueError:
            self.fail(
                f"{value!r} is not a number of seconds: put --follow after SOURCE and TABLE, or "
                "give seconds such as --follow 10"
            )
        if not 0.1 <= seconds < float("inf"):
            self.fail(f"{value!r}: expected seconds from 0.1 up")
        return seconds


ENDPOINT = click.option(
    "--endpoint",
    metavar="URL",
    help="A model server computes the encoder: http://HOST:PORT, http://HOST:PORT/v2/models/NAME, "
    "http://HOST:PORT/v1/models/NAME or grpc://HOST:PORT/NAME. POMONA_ENDPOINT_TOKEN in the "
    "environment is its bearer token.",
)
FOLLOW = click.option(
    "--follow",
    type=_Seconds(),
    is_flag=False,
    flag_value="2",
    metavar="[SECONDS]",
    help="Continue to look for new and changed images every SECONDS, 2 by default, until Ctrl-C or "
    "SIGTERM.",
)


class Size(click.ParamType):  # type: ignore[type-arg] # generic only since click 8.4
    """Height and width in pixels: 224 or 240x320."""

    name = "pixels"

    def convert(self, value: Any, *_: Any) -> tuple[int, int]:
        """Return (height, width) in pixels."""
        sides = str(value).lower().split("x")
        if len(sides) > 2 or not all(side.isdecimal() for side in sides):
            self.fail(f"invalid size {value!r}: expected 224, or height and width such as 240x320")
        return int(sides[0]), int(sides[-1])


class Numbers(click.ParamType):  # type: ignore[type-arg] # generic only since click 8.4
    """One number, or one for each channel: 127.5 or 103.9,116.8,123.7."""

    name = "numbers"

    def convert(self, value: Any, *_: Any) -> tuple[float, float, float]:
        """Return one number for each of three channels."""
        try:
            numbers = [float(part) for part in str(value).split(",")]
            first, second, third = numbers * 3 if len(numbers) == 1 else numbers
        except ValueError:
            self.fail(
                f"{value!r} is not a number: expected one, or three with commas such as "
                "103.9,116.8,123.7"
            )
        return first, second, third


class Colour(click.ParamType):  # type: ignore[type-arg] # generic only since click 8.4
    """Red, green and blue, 0..255: 124,116,104."""

    name = "colour"

    def convert(self, value: Any, *_: Any) -> tuple[int, int, int]:
        """Return red, green and blue."""
        levels = str(value).split(",")
        if len(levels) != 3 or not all(level.strip().isdecimal() for level in levels):
            self.fail(f"invalid colour {value!r}: expected red, green and blue such as 124,116,104")
        return int(levels[0]), int(levels[1]), int(levels[2])


def warn_of_untrained(weights: str | None) -> None:
    """Print a note if the weights are seeded random numbers."""
    if weights and weights.startswith("untrained:"):
        say("note: features of untrained weights mean little; use them only to try things out")
