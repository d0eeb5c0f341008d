"""`pomona encoder`: build, convert and show the files that hold an encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from pomona.cli.console import AS_JSON, results_follow
from pomona.cli.options import (
    CALIBRATE,
    LAYER,
    PRECISIONS,
    RUNTIME,
    SIGNATURE,
    TRUST,
    WEIGHTS,
    Colour,
    Numbers,
    Size,
    warn_of_untrained,
)
from pomona.cli.paths import as_path
from pomona.cli.sections import OrderedGroup, SectionedCommand
from pomona.encoder.names import EXPORT_FORMATS
from pomona.io.location import shell_word

__all__ = ["encoder"]


@click.group(cls=OrderedGroup, short_help="Build, convert and show encoders.")
def encoder() -> None:
    """Build, convert and show encoders."""


@encoder.command(
    "build",
    cls=SectionedCommand,
    sections={
        "Network": "--weights --layer --pool --prefix-tokens --normalize "
        "--logit-scale --logit-bias --signature --precision --calibrate --runtime --trust",
        "Input of a network in a file": "--size --resize-mode --resize-size --crop-pct "
        "--crop --resize --centring --fill --pixel-type --channel-order --scale --mean --std "
        "--layout",
        "Output": "--output",
    },
    short_help="Build the encoder of a network, and write it to a file.",
    epilog="Example: pomona encoder build mobilenet_v2 -o mobilenet.encoder",
)
@click.argument("model", type=as_path)
@WEIGHTS
@LAYER
@click.option(
    "--pool",
    type=click.Choice(["cls", "mean"]),
    help="For a network that ends in tokens: use the first token, or the mean of those of the "
    "patches.",
)
@click.option(
    "--prefix-tokens",
    type=int,
    metavar="N",
    help="Tokens before those of the patches: 1 for a ViT, 5 with four registers.",
)
@click.option("--normalize", is_flag=True, default=None, help="Scale each vector to length 1 (L2).")
@click.option(
    "--logit-scale",
    type=float,
    metavar="NUMBER",
    help="For a text tower whose files do not have it: 100 for CLIP of OpenAI.",
)
@click.option(
    "--logit-bias", type=float, metavar="NUMBER", help="Likewise, for SigLIP; CLIP has none."
)
@SIGNATURE
@click.option("--size", type=Size(), help="Input size: 224, or height x width: 240x320.")
@click.option(
    "--resize-mode",
    type=click.Choice(["squash", "shortest", "longest"]),
    help="squash changes the aspect ratio; shortest fits the shorter side, and the centre is "
    "cropped; longest fits the longer side, and the rest is padded.",
)
@click.option(
    "--resize-size",
    type=Size(),
    help="Resize to this size, before the centre is cropped.  [default: the input size]",
)
@click.option(
    "--crop-pct",
    type=float,
    metavar="SHARE",
    help="Instead of --resize-size: input size / resized size, such as 0.875 (timm's crop_pct).",
)
@click.option(
    "--crop",
    type=click.Choice(["after", "before"]),
    help="Crop after or before resizing; before, --crop-pct is a share of the shorter side.  "
    "[default: after]",
)
@click.option(
    "--centring",
    type=click.Choice(["round", "floor"]),
    help="Rounding of half a pixel: floor as in transformers, round elsewhere.  [default: round]",
)
@click.option("--fill", type=Colour(), metavar="R,G,B", help="Colour of padding.  [default: 0,0,0]")
@click.option(
    "--pixel-type",
    type=click.Choice(["uint8", "float32"]),
    help="float32 if the training did not round the resized pixels.  [default: uint8]",
)
@click.option(
    "--resize",
    type=click.Choice(["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]),
    help="Filter for resizing images to that size.  [default: bicubic]",
)
@click.option(
    "--channel-order",
    type=click.Choice(["RGB", "BGR", "grey"]),
    help="Channels of the input.  [default: RGB, or grey for one channel]",
)
@click.option("--scale", type=float, help="Input = (pixel * scale - mean) / std, pixels 0..255.")
@click.option("--mean", type=Numbers(), help="One number, or one for each channel: 0.4,0.4,0.4.")
@click.option("--std", type=Numbers(), help="One number, or one for each channel: 0.2,0.2,0.2.")
@click.option(
    "--layout",
    type=click.Choice(["NCHW", "NHWC"]),
    help="Layout of the input, if the network does not show it.",
)
@TRUST
@RUNTIME
@click.option(
    "--precision",
    type=PRECISIONS,
    default="f32",
    show_default=True,
    help="bf16 and int8 are faster and change the features.",
)
@CALIBRATE
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    type=as_path,
    help="Where to write the encoder.",
)
def build(
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
    .keras, .h5, .onnx, .tflite, OpenVINO's .xml, PyTorch's .pt and .pt2, or a TensorFlow SavedModel
    folder; or a folder of Hugging Face, timm, OpenCLIP or Immich, which contains the preprocessing.
    If another file does not contain the preprocessing of its input, give it in options or in a card
    in the same folder: fruit.toml for fruit.onnx, with the same names, such as size, resize_mode
    and scale.

    The encoder's file contains the network, its weights and its preprocessing. 'pomona extract
    --encoder' uses it on machines without Keras and without the weights.
    """
    from pomona.building.build import build_encoder, is_part_of_network
    from pomona.building.network_settings import NetworkSettings
    from pomona.building.quantize.precision import check_precision, convert_encoder
    from pomona.cli.render import show_encoder
    from pomona.table.feature_table import check_output

    check_output(Path(output))
    for given in filter(None, (model, weights)):
        if is_part_of_network(Path(output), given):
            raise click.UsageError(f"-o {output} would replace a file of {given}: change the name")
    warn_of_untrained(weights)
    check_precision(precision, calibrate)
    network = NetworkSettings(**settings)
    built = build_encoder(
        model, weights, settings=network, trust=trust, runtime=runtime or "openvino"
    )
    built = convert_encoder(built, precision, calibrate)
    built.save(output)
    results_follow()
    show_encoder(output, built)


@encoder.command(
    "convert",
    cls=SectionedCommand,
    short_help="Convert an encoder to a lower precision.",
    epilog="Example: pomona encoder convert f32.encoder --precision bf16 -o bf16.encoder",
)
@click.argument("file", type=as_path)
@click.option(
    "--precision", type=click.Choice(["bf16", "int8"]), required=True, help="The new precision."
)
@CALIBRATE
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    type=as_path,
    help="Where to write the encoder.",
)
def convert(file: str, precision: str, calibrate: str | None, output: str) -> None:
    """Convert the float32 encoder in FILE to a lower precision: faster, with other features."""
    from pomona.building.quantize.precision import convert_encoder
    from pomona.cli.render import show_encoder
    from pomona.encoder.encoder import Encoder
    from pomona.table.feature_table import check_output

    check_output(Path(output))
    converted = convert_encoder(Encoder.load(file), precision, calibrate)
    converted.save(output)
    results_follow()
    show_encoder(output, converted)


@encoder.command(
    "export",
    cls=SectionedCommand,
    short_help="Write an encoder as a folder for a model server.",
    epilog="Example: pomona encoder export fruit.encoder --to triton served",
)
@click.argument("file", type=as_path)
@click.argument("folder", type=as_path)
@click.option(
    "--to", type=click.Choice(EXPORT_FORMATS), required=True, help="What loads the folder."
)
@click.option(
    "--name",
    metavar="NAME",
    help="Name of the model in the server.  [default: that of FILE]",
)
@click.option(
    "--built-from",
    metavar="FILE",
    type=as_path,
    help="For savedmodel: the Keras file of the network or of the weights that the encoder was "
    "built from.  [default: none, for ImageNet and untrained weights]",
)
def export(file: str, folder: str, *, to: Any, name: str | None, built_from: str | None) -> None:
    """Write the encoder in FILE as a new FOLDER that a model server loads.

    The server takes pixels of the network's input size and returns vectors. FOLDER also has a
    README, the encoder's description, and probe images with their vectors, to check the server.

    openvino is for OpenVINO Model Server; triton for NVIDIA Triton; kserve is a program for
    KServe's Python model server; onnx is a file for ONNX Runtime, if the encoder runs on it;
    savedmodel is for TensorFlow Serving, if the network is one of Keras.
    """
    from pomona.building.export.export import export_encoder

    export_encoder(file, folder, to=to, name=name, built_from=built_from)
    results_follow()
    click.echo(f"{folder}: written for {to}")
    click.echo(f"next: read {shell_word(str(Path(folder, 'README.md')))}")


@encoder.command(
    "show",
    cls=SectionedCommand,
    short_help="Show the network and the preprocessing of an encoder.",
    epilog="Example: pomona encoder show fruit.encoder",
)
@click.argument("file", type=as_path)
@AS_JSON
def show(file: str, *, as_json: bool) -> None:
    """Check the encoder in FILE for damage, and show its network and its preprocessing."""
    from pomona.cli.render import show_encoder
    from pomona.encoder.encoder import Encoder

    loaded = Encoder.load(file)
    results_follow()
    if as_json:
        text = {"text": loaded.text.to_json()} if loaded.text else {}
        click.echo(json.dumps(loaded.provenance() | text))
    else:
        show_encoder(file, loaded)
