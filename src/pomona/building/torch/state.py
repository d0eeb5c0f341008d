"""Weights in a file -> tensors by their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pomona.errors import EncoderError
from pomona.messages import one_line

__all__ = ["read_state"]


def read_state(path: Path) -> dict[str, Any]:
    """Read safetensors, or a pickle of tensors alone. Call `import_offline` first.

    Raises:
        EncoderError: it cannot be read, or it contains something else than tensors.
    """
    import safetensors.torch
    import torch

    try:
        if path.suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of any kind: a file decided what runs
        raise EncoderError(f"cannot read the weights {path}: {one_line(error)}") from error
    if not (isinstance(state, dict) and all(map(torch.is_tensor, state.values()))):
        raise EncoderError(f"{path} holds {type(state).__name__}, expected tensors by their names")
    return {
        str(name): tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }
