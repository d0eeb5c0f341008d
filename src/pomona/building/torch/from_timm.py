"""Folder of timm -> module for images."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pomona.building.torch.convert import with_one_output
from pomona.building.torch.libraries import import_offline
from pomona.building.torch.state import read_state
from pomona.errors import EncoderError
from pomona.messages import one_line

__all__ = ["load"]


def load(
    folder: Path, architecture: str, config: Mapping[str, Any], weights: Path, *, tokens: bool
) -> Any:
    """Load a network without its classifier.

    Args:
        folder: with config.json and weights.
        architecture: timm's name of the network.
        config: the content of config.json.
        weights: their file.
        tokens: return the tokens instead of the vector.

    Returns:
        A `torch.nn.Module`, for `converted`, and its number of prefix tokens.

    Raises:
        EncoderError: timm is missing, or it cannot load the network, or weights are missing.
    """
    timm = import_offline("timm", folder, "export the network to ONNX with timm's onnx_export.py")
    options = dict(config.get("model_args") or {})
    options.pop("num_classes", None)
    reserved = sorted({*options} & {*inspect.signature(timm.create_model).parameters})
    if reserved:
        raise EncoderError(
            f"{folder / 'config.json'} has model_args {reserved[0]}, which is not an argument of a "
            "network: refused"
        )
    state = read_state(weights)
    try:
        network = timm.create_model(architecture, pretrained=False, num_classes=0, **options)
        state = _in_todays_names(timm, architecture, state, network)
        missing, unexpected = network.load_state_dict(state, strict=False)
    except Exception as error:  # of any kind: a file decided what runs
        raise EncoderError(
            f"timm {timm.__version__} cannot load {folder}: {one_line(error)}"
        ) from error
    heads = _heads(config) or _heads(network.pretrained_cfg)
    others = [name for name in unexpected if not name.startswith(heads)]
    if missing or others:
        raise EncoderError(
            f"{weights} does not fit {architecture} of timm {timm.__version__}: "
            + (f"it lacks {missing[0]}" if missing else f"it has {others[0]}, too")
        )
    if not tokens:
        return with_one_output(network, lambda network, pixels: ("pooler_output", network(pixels)))

    def all_tokens(network: Any, pixels: Any) -> tuple[str, Any]:
        found = network.forward_features(pixels)
        if found.dim() != 3:
            raise EncoderError(f"`pool` has no effect on {architecture}, which has no tokens")
        return "last_hidden_state", found

    module = with_one_output(network, all_tokens)
    module.prefix_tokens = getattr(network, "num_prefix_tokens", 0)
    return module


def _in_todays_names(timm: Any, architecture: str, state: dict[str, Any], network: Any) -> Any:
    """Return weights by the names of this version of timm, as timm does when it downloads them."""
    entry = timm.models.model_entrypoint(architecture.partition(".")[0])
    rename = getattr(sys.modules[entry.__module__], "checkpoint_filter_fn", None)
    if rename is None:
        return state
    takes_network = len(inspect.signature(rename).parameters) > 1
    return rename(state, network) if takes_network else rename(state)


def _heads(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the beginnings of the names of a classifier's weights."""
    names = (config.get("pretrained_cfg") or config).get("classifier") or ()
    return tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))
