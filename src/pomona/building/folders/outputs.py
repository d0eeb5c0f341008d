"""Graphs with several inputs and outputs: which input is the image, and which output the vector."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pomona.building.folders.kinds import NetworkFolder
from pomona.building.network_settings import NetworkSettings
from pomona.errors import EncoderError

__all__ = ["image_input", "vector_output"]

_OUTPUTS = ("image_embeds", "pooler_output", "last_hidden_state")  # the best first


def image_input(ranks: Mapping[str, int | None], path: Path) -> str:
    """Return the name of the only input of rank 4.

    Args:
        ranks: rank of each input; None if it is not fixed.
        path: the file of the graph, for errors.

    Raises:
        EncoderError: there is none, or there are several.
    """
    images = [name for name, rank in ranks.items() if rank == 4]
    if len(images) != 1:
        raise EncoderError(
            f"{path} has the inputs {', '.join(sorted(ranks))}, expected one of rank 4: the image"
        )
    return images[0]


def vector_output(outputs: Iterable[str], folder: NetworkFolder, settings: NetworkSettings) -> str:
    """Return the name of the output that is the vector, or that has its tokens.

    This is the layer in the settings, or else `image_embeds`, `pooler_output` or
    `last_hidden_state`, or else the only output.

    Args:
        outputs: the names of all outputs of the graph.
        folder: the folder of the graph.
        settings: those of the caller over those of the folder.

    Raises:
        EncoderError: there is no such output; or it is not the vector that its authors compare; or
            it has tokens, and nothing says how they become a vector.
    """
    name = settings.layer or _best(list(outputs), folder)
    if settings.layer is None and folder.is_projected and name != "image_embeds":
        raise EncoderError(
            f"{folder.graph} ends before CLIP's projection, and no text matches its output: export "
            "the model with its projection (image_embeds), or choose this output with `layer`"
        )
    if settings.pool is None and name == "last_hidden_state":
        raise EncoderError(
            f"{folder.graph} ends in tokens (last_hidden_state), and {folder.kind} has no known "
            "convention for them: give `pool` cls or mean"
        )
    return name


def _best(outputs: list[str], folder: NetworkFolder) -> str:
    known = [name for name in _OUTPUTS if folder.has_pooler or name != "pooler_output"]
    for name in known:
        if name in outputs:
            return name
    if "logits" in outputs:
        raise EncoderError(
            f"{folder.graph} ends in class scores (logits), which are not features: export the "
            "network for the task feature-extraction, or choose an inner layer with `layer`"
        )
    if len(outputs) == 1:
        return outputs[0]
    raise EncoderError(
        f"{folder.graph} has the outputs {', '.join(sorted(outputs))}, expected one of "
        f"{', '.join(known)}: name one with `layer`"
    )
