"""Network in a folder -> encoder."""

from __future__ import annotations

from pathlib import Path

from pomona.building.file_digest import content_digest
from pomona.building.folders.kinds import read_folder
from pomona.building.folders.outputs import cut_to_image
from pomona.building.graph.openvino_files import encoder_of, read_network
from pomona.building.network_settings import NetworkSettings
from pomona.encoder.encoder import Encoder
from pomona.errors import EncoderError

__all__ = ["build"]


def build(path: Path, settings: NetworkSettings) -> Encoder:
    """Build an encoder.

    Args:
        path: the folder.
        settings: settings that differ from those of the folder.

    Raises:
        EncoderError: the folder is not one that Pomona knows, or is incomplete; or the network does
            not return one vector for an image.
    """
    folder = read_folder(path)
    network = read_network(folder.graph, folder.graph)
    network = cut_to_image(network, folder.graph, settings.layer, has_pooler=folder.has_pooler)
    chosen, names = settings.over(folder.settings), network.output().get_names()
    if settings.layer is None and folder.is_projected and "image_embeds" not in names:
        raise EncoderError(
            f"{folder.graph} ends before CLIP's projection, and no text matches its output: export "
            "the model with its projection (image_embeds), or choose this output with `layer`"
        )
    if chosen.pool is None and "last_hidden_state" in names:
        raise EncoderError(
            f"{folder.graph} ends in tokens (last_hidden_state), and {folder.kind} has no known "
            "convention for them: give `pool` cls or mean"
        )
    return encoder_of(network, path, chosen, content_digest(path), folder.kind)
