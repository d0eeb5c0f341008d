"""Text towers of folders: CLIP and SigLIP of Hugging Face, OpenCLIP of Immich."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pomona.building.file_digest import JOINT_GRAPHS, TEXT_GRAPHS, first_file
from pomona.building.folders.kinds import NetworkFolder, read_folder
from pomona.building.folders.reading import inside
from pomona.building.folders.text_graph import (
    cut_to_text,
    fitted_scores,
    is_for_text,
    known_tokens,
)
from pomona.building.folders.text_model import TextModel, text_model
from pomona.building.folders.tokenizer import prepared_tokenizer
from pomona.building.folders.weights import text_network_of_weights
from pomona.building.graph.endpoints import flattened, serialized
from pomona.building.graph.openvino_files import read_network
from pomona.building.network_settings import NetworkSettings
from pomona.encoder.encoder import Encoder
from pomona.encoder.text import TextTower
from pomona.errors import EncoderError
from pomona.runtime.text import PROBE_TEXTS, TextRuntime

__all__ = ["text_tower", "with_text_tower"]


def with_text_tower(
    encoder: Encoder, folder: Path, settings: NetworkSettings, *, trust: bool = False
) -> Encoder:
    """Return an encoder of a folder with the folder's text tower, if it has one.

    Args:
        encoder: the encoder for images.
        folder: the folder.
        settings: with `logit_scale` and `logit_bias`, if the files do not have them.
        trust: read weights that are pickles.

    Raises:
        EncoderError: the tokenizer is that of another model; the vectors of texts have another
            length than those of images; or a file is damaged.
    """
    if (known := read_folder(folder)).library:
        tower = _from_weights(encoder, folder, known, settings, trust=trust)
    else:
        tower = _from_graph(encoder, folder, settings)
    if tower is None:
        settings.check_unused(f"{folder}, which has no text tower", "logit_scale", "logit_bias")
    return replace(encoder, text=tower)


def _from_graph(encoder: Encoder, folder: Path, settings: NetworkSettings) -> TextTower | None:
    graph = first_file(folder, (*TEXT_GRAPHS, *JOINT_GRAPHS))
    model = None if graph is None else text_model(folder)
    if graph is None or model is None:
        return None
    inside(folder, str(graph.relative_to(folder)))
    network = read_network(graph, graph)
    if not is_for_text(network):
        return None
    cut = cut_to_text(network, graph, model.outputs, model.context)
    tower = text_tower(cut, model, encoder, settings)
    joint = first_file(folder, JOINT_GRAPHS)
    if tower.logit_scale is None and joint is not None:
        tower = _with_scores(tower, joint, encoder)
    return tower


def _from_weights(
    encoder: Encoder, path: Path, folder: NetworkFolder, settings: NetworkSettings, *, trust: bool
) -> TextTower | None:
    open_clip = folder.config["model_cfg"] if folder.library == "open_clip" else None
    model = None if folder.library == "timm" else text_model(path, open_clip)
    if model is None:
        return None
    graph, scores = text_network_of_weights(path, folder, model.context, trust=trust)
    return text_tower(graph, model, encoder, settings.over(scores))


def text_tower(
    graph: Any, model: TextModel, encoder: Encoder, settings: NetworkSettings
) -> TextTower:
    """Make a graph of texts a text tower.

    Args:
        graph: an `openvino.Model` from tokens, (1, context) int64, to a vector.
        model: how the model takes texts.
        encoder: the encoder for images.
        settings: with `logit_scale` and `logit_bias`.

    Raises:
        EncoderError: as for `with_text_tower`.
    """
    tokenizer = prepared_tokenizer(model, known_tokens(graph))
    graph = flattened(graph, normalize=encoder.normalized)
    dimension = graph.output(0).get_shape()[1]
    if dimension != encoder.dimension:
        raise EncoderError(
            f"{model.tokenizer.parent} has vectors of {dimension} numbers for texts and of "
            f"{encoder.dimension} for images, which cannot be compared: use the projected output "
            "for both (text_embeds and image_embeds)"
        )
    content, constants = serialized(graph)
    tower = TextTower(
        graph=content,
        constants=constants,
        tokenizer=tokenizer.to_str().encode(),
        context=model.context,
        cleaning=model.cleaning,
        probability=model.probability,
        logit_scale=settings.logit_scale,
        logit_bias=settings.logit_bias or 0.0,
    )
    vectors = TextRuntime(tower, dimension).vectors(PROBE_TEXTS)
    if not np.isfinite(vectors).all() or not vectors.any(axis=1).all():
        raise EncoderError(
            f"{model.tokenizer.parent} computes NaN, infinite or all-zero vectors of texts: the "
            "weights are damaged"
        )
    return replace(tower, probes=vectors.astype("<f4").tobytes())


def _with_scores(tower: TextTower, joint: Path, encoder: Encoder) -> TextTower:
    """Add scale and bias of the scores of a graph of images and texts."""
    tokens = TextRuntime(tower, encoder.dimension).tokens(PROBE_TEXTS)
    size = (encoder.preprocessing.height, encoder.preprocessing.width)
    has_bias = tower.probability == "sigmoid"
    found = fitted_scores(read_network(joint, joint), joint, tokens, size, bias=has_bias)
    return tower if found is None else replace(tower, logit_scale=found[0], logit_bias=found[1])
