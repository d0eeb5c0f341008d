"""Scale and bias of the scores of a model of images and texts."""

from __future__ import annotations

from typing import Any

__all__ = ["with_scores"]


def with_scores(module: Any, network: Any, vocabulary: int) -> Any:
    """Add attributes to a module for texts.

    Args:
        module: the module.
        network: the model of transformers or open_clip, with the logarithm of the scale.
        vocabulary: number of tokens that it knows.

    Returns:
        The module, with `logit_scale`, `logit_bias` and `vocabulary`.
    """
    bias = getattr(network, "logit_bias", None)
    module.logit_scale = float(network.logit_scale.exp().item())
    module.logit_bias = 0.0 if bias is None else float(bias.item())
    module.vocabulary = int(vocabulary)
    return module
