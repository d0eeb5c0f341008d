"""Weights for PyTorch in a folder -> graph of OpenVINO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pomona.building.folders.kinds import NetworkFolder
from pomona.building.graph.image_input import image_size
from pomona.building.network_settings import NetworkSettings
from pomona.errors import EncoderError

__all__ = ["network_of_weights", "text_network_of_weights"]


def network_of_weights(
    path: Path, folder: NetworkFolder, settings: NetworkSettings, *, trust: bool
) -> tuple[Any, NetworkSettings]:
    """Convert the network of a folder.

    Args:
        path: the folder.
        folder: what it holds.
        settings: settings that differ from those of the folder. If they have `pool`, the output is
            the tokens.
        trust: read weights that are pickles.

    Returns:
        An `openvino.Model`, and all settings.

    Raises:
        EncoderError: a library is missing; the weights are pickles and not trusted; or the library
            cannot load the network.
    """
    from pomona.building.torch import from_open_clip, from_timm, from_transformers
    from pomona.building.torch.convert import converted, drawn

    pickled = _is_pickled(path, folder, trust=trust)

    weights, chosen, tokens = folder.graph, settings.over(folder.settings), bool(settings.pool)
    size = image_size([1, 3, None, None], "NCHW", path, chosen)
    if folder.library == "timm":
        name = str(folder.config["architecture"])
        module = from_timm.load(path, name, folder.config, weights, tokens=tokens)
        prefix = NetworkSettings(prefix_tokens=getattr(module, "prefix_tokens", None))
        return converted(module, drawn(size), path), chosen.over(prefix)
    if folder.library == "open_clip":
        settings.check_unused(f"{path}, a folder of OpenCLIP", "pool", "prefix_tokens")
        other = size if size != folder.settings.size else None
        return converted(from_open_clip.load(path, weights, other), drawn(size), path), chosen
    module = from_transformers.load(
        path, folder.config, has_pooler=folder.has_pooler, tokens=tokens, pickled=pickled
    )
    return converted(module, drawn(size), path), chosen


def text_network_of_weights(
    path: Path, folder: NetworkFolder, context: int, *, trust: bool
) -> tuple[Any, NetworkSettings]:
    """Convert the part for texts of a network of images and texts.

    Args:
        path: the folder.
        folder: what it holds: CLIP or SigLIP of Hugging Face, or OpenCLIP.
        context: number of tokens.
        trust: read weights that are pickles.

    Returns:
        An `openvino.Model` from tokens, (1, context) int64, to a vector; and scale and bias of the
        scores.

    Raises:
        EncoderError: as for `network_of_weights`.
    """
    from pomona.building.torch import from_open_clip, from_transformers
    from pomona.building.torch.convert import converted

    pickled = _is_pickled(path, folder, trust=trust)
    if folder.library == "open_clip":
        module = from_open_clip.load_text(path, folder.graph)
    else:
        module = from_transformers.load_text(path, pickled=pickled)
    tokens = np.random.default_rng(0).integers(0, module.vocabulary, (1, context))
    scores = NetworkSettings(logit_scale=module.logit_scale, logit_bias=module.logit_bias)
    return converted(module, tokens, path), scores


def _is_pickled(path: Path, folder: NetworkFolder, *, trust: bool) -> bool:
    """Return whether the weights are pickles.

    Raises:
        EncoderError: they are, and they are not trusted.
    """
    pickled = folder.graph.suffix == ".bin"
    if pickled and not trust:
        raise EncoderError(
            f"{path} has only pickled weights ({folder.graph.name}), a format that can contain "
            "code: add `trust` if you trust its author, or convert them to safetensors"
        )
    return pickled
