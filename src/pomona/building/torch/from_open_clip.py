"""Folder of OpenCLIP -> module for images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pomona.building.torch.convert import image_module
from pomona.building.torch.libraries import import_offline
from pomona.errors import EncoderError
from pomona.messages import one_line

__all__ = ["load"]


def load(folder: Path, weights: Path, size: tuple[int, int] | None) -> Any:
    """Load the network of a folder with open_clip_config.json.

    Args:
        folder: the folder.
        weights: their file.
        size: height and width of images; None for those of the folder.

    Returns:
        A `torch.nn.Module`, for `converted`.

    Raises:
        EncoderError: open_clip is missing, or cannot load the network.
    """
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
    return image_module(
        network, lambda network, pixels: ("image_embeds", network.encode_image(pixels))
    )
