"""Encoder of a Keras network -> a SavedModel of TensorFlow.

The file of an encoder contains a graph of OpenVINO, and nothing converts it to TensorFlow. Keras
builds the network again, on TensorFlow, in a process of its own: `tensorflow_process`.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pomona.building.build_process import ask
from pomona.building.export.folder import Served
from pomona.encoder.encoder import Encoder
from pomona.encoder.networks import CARDS
from pomona.errors import EncoderError
from pomona.extras import check_extra
from pomona.io.location import check_here, local_path

__all__ = ["write"]


def write(
    encoder: Encoder, name: str, folder: Path, built_from: str | os.PathLike[str] | None
) -> Served:
    """Write a versioned SavedModel, with a signature for pixels and one for their raw bytes.

    Raises:
        EncoderError: Keras cannot build the network again, or TensorFlow is not installed.
        RunError: the process ended without an answer.
    """
    network = _network(encoder, built_from)
    what = "`to` savedmodel needs TensorFlow"
    check_extra("savedmodel", what, "tensorflow", error=EncoderError)
    version = folder / name / "1"
    version.parent.mkdir()
    with tempfile.TemporaryDirectory(prefix="pomona-") as place:
        file = Path(place, "encoder")
        encoder.for_images().save(file)
        request = {"encoder": str(file), "folder": str(version.absolute()), **network}
        purpose = f"export {encoder.model} with TensorFlow"
        ask("pomona.building.export.tensorflow_process", request, purpose)
    return Served("savedmodel.md")


def _network(encoder: Encoder, built_from: str | os.PathLike[str] | None) -> dict[str, str]:
    """Return what Keras builds the network from: its name and its weights, or its file."""
    label = f"encoder {encoder.fingerprint[:12]} ({encoder.model})"
    if encoder.precision != "f32":
        raise EncoderError(
            f"{label} computes in {encoder.precision}, and TensorFlow would compute in f32, with "
            "other features: export the encoder of `precision` f32"
        )
    card = CARDS.get(encoder.model)
    is_named = (
        card is not None
        and card.keras_class is not None
        and card.architecture == encoder.architecture
    )
    if not is_named and not encoder.architecture.startswith("Keras model "):
        raise EncoderError(
            f"{label} is not a network of Keras, and only Keras builds networks for TensorFlow: "
            "use `to` openvino, triton or kserve"
        )
    if built_from is not None:
        check_here(os.fspath(built_from), "`built_from`", EncoderError)
        path = local_path(os.fspath(built_from))
        return {"weights" if is_named else "file": str(Path(path).absolute())}
    if is_named and (encoder.weights == "imagenet" or encoder.weights.startswith("untrained:")):
        return {"weights": encoder.weights}
    raise EncoderError(
        f"{label} was built from the file {encoder.weights}, which the export needs: give it as "
        "`built_from`"
    )
