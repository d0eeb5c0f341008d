"""Folder of Hugging Face with weights -> modules for images and for texts, made by transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pomona.building.torch.convert import with_one_output
from pomona.building.torch.libraries import import_offline
from pomona.building.torch.scores import with_scores
from pomona.errors import EncoderError
from pomona.messages import one_line

__all__ = ["load", "load_text"]

_WITH_TEXT = {"clip", "siglip"}  # the vector of an image is `get_image_features`
# Its AvgPool2d has a kernel larger than the map, which OpenVINO refuses; the mean is the same.
_WITHOUT_OWN_POOL = {"efficientnet"}
_PROJECTED = "CLIPVisionModelWithProjection"  # not what AutoModel makes of a folder of its own


def load(
    folder: Path, config: Mapping[str, Any], *, has_pooler: bool, tokens: bool, pickled: bool
) -> Any:
    """Load a network for images, without code from its folder and without a download.

    Args:
        folder: with config.json and weights.
        config: the content of config.json.
        has_pooler: whether `pooler_output` has trained weights.
        tokens: return `last_hidden_state` instead of the vector.
        pickled: whether the weights are pickles, which are read as data alone.

    Returns:
        A `torch.nn.Module`, for `converted`.

    Raises:
        EncoderError: transformers is missing or cannot load it, or weights are missing.
    """
    kind, architectures = config["model_type"], config.get("architectures") or []
    is_projected = kind == "clip_vision_model" and _PROJECTED in architectures
    options = {} if has_pooler else {"add_pooling_layer": False}
    name = _PROJECTED if is_projected and not tokens else "AutoModel"
    network = _network(folder, name, pickled, **options)

    def vector(network: Any, pixels: Any) -> tuple[str, Any]:
        if tokens or kind in _WITHOUT_OWN_POOL:
            part = network.vision_model if kind in _WITH_TEXT else network
            return "last_hidden_state", part(pixel_values=pixels).last_hidden_state
        if kind in _WITH_TEXT:
            features = network.get_image_features(pixel_values=pixels)
            return "image_embeds", getattr(features, "pooler_output", features)
        out = network(pixel_values=pixels)
        names = ("image_embeds", "pooler_output") if has_pooler else ()
        for name in names:
            if (found := out.get(name)) is not None:
                return name, found
        return "last_hidden_state", out.last_hidden_state

    return with_one_output(network, vector)


def load_text(folder: Path, *, pickled: bool) -> Any:
    """Load CLIP or SigLIP for texts.

    Args:
        folder: with config.json and weights.
        pickled: whether the weights are pickles.

    Returns:
        A `torch.nn.Module` from tokens to a vector, with the attributes of `with_scores`.

    Raises:
        EncoderError: as for `load`.
    """
    network = _network(folder, "AutoModel", pickled)

    def vector(network: Any, tokens: Any) -> tuple[str, Any]:
        features = network.get_text_features(input_ids=tokens)
        return "text_embeds", getattr(features, "pooler_output", features)

    vocabulary = network.config.text_config.vocab_size
    return with_scores(with_one_output(network, vector), network, vocabulary)


def _network(folder: Path, name: str, pickled: bool, **options: Any) -> Any:
    transformers = import_offline(
        "transformers", folder, "export the network to ONNX with Hugging Face's optimum"
    )
    import torch

    try:
        network, loaded = getattr(transformers, name).from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=not pickled,
            weights_only=True,
            dtype=torch.float32,
            output_loading_info=True,
            **options,
        )
    except Exception as error:  # of any kind: a file decided what runs
        raise EncoderError(
            f"transformers {transformers.__version__} cannot load {folder}: {one_line(error)}"
        ) from error
    absent = sorted(loaded["missing_keys"]) + sorted(map(str, loaded["mismatched_keys"]))
    if absent:
        raise EncoderError(
            f"{folder} lacks weights of the network in its config.json ({absent[0]}, say), which "
            "transformers would draw at random: copy the whole folder"
        )
    return network
