"""Folder of OpenCLIP -> modules for images and for texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pomona.building.torch.convert import with_one_output
from pomona.building.torch.libraries import import_offline
from pomona.building.torch.scores import with_scores
from pomona.errors import EncoderError
from pomona.messages import one_line

__all__ = ["load", "load_text"]


def load(folder: Path, weights: Path, size: tuple[int, int] | None) -> Any:
    """Load the network of a folder with open_clip_config.json, for images.

    Args:
        folder: the folder.
        weights: their file.
        size: height and width of images; None for those of the folder.

    Returns:
        A `torch.nn.Module`, for `converted`.

    Raises:
        EncoderError: open_clip is missing, or cannot load the network.
    """
    return with_one_output(
        _network(folder, weights, size),
        lambda network, pixels: ("image_embeds", network.encode_image(pixels, normalize=False)),
    )


def load_text(folder: Path, weights: Path) -> Any:
    """Load the network of a folder with open_clip_config.json, for texts.

    Returns:
        A `torch.nn.Module` from tokens to a vector, with the attributes of `with_scores`.

    Raises:
        EncoderError: as for `load`.
    """
    network = _network(folder, weights, None)
    tower = getattr(network, "text", network)
    vocabulary = tower.token_embedding.num_embeddings
    module = with_one_output(
        network,
        lambda network, tokens: ("text_embeds", network.encode_text(tokens, normalize=False)),
    )
    return with_scores(module, network, vocabulary)


def _network(folder: Path, weights: Path, size: tuple[int, int] | None) -> Any:
    open_clip = import_offline(
        "open_clip", folder, "export the image part to ONNX, and give the .onnx file"
    )
    try:
        network = open_clip.create_model(
            f"local-dir:{folder}",
            load_weights=False,  # it would choose a file itself, a pickle too
            pretrained_image=False,
            pretrained_text=False,
            force_image_size=size,
        )
        open_clip.load_checkpoint(network, str(weights), strict=True, weights_only=True)
    except Exception as error:  # of any kind: a file decided what runs
        raise EncoderError(
            f"open_clip {open_clip.__version__} cannot load {folder}: {one_line(error)}"
        ) from error
    return network
