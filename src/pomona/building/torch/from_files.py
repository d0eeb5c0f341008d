"""TorchScript (.pt) and programs of torch.export (.pt2) -> graphs of OpenVINO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pomona.building.graph.image_input import image_size
from pomona.building.network_settings import NetworkSettings
from pomona.building.torch.convert import check_conversion, convert_model, converted, drawn
from pomona.building.torch.libraries import import_offline
from pomona.errors import EncoderError
from pomona.messages import one_line

__all__ = ["read"]


def read(path: Path, settings: NetworkSettings, *, trust: bool) -> Any:
    """Read a network with one input, the image.

    Args:
        path: the file.
        settings: with the size, for TorchScript, which does not record it.
        trust: read the pickles in the file.

    Returns:
        An `openvino.Model`.

    Raises:
        EncoderError: it is not trusted, or cannot be read.
    """
    if not trust:
        raise EncoderError(
            f"{path} contains pickles and code of PyTorch, which can run anything here: add "
            "`trust` if you trust its author, or export the network to ONNX"
        )
    torch = import_offline("torch", path, "export the network to ONNX")
    if path.suffix == ".pt2":
        return _exported(torch, path)
    try:
        module = torch.jit.load(str(path), map_location="cpu")
    except Exception as error:  # of any kind: a file decided what runs
        raise EncoderError(
            f"cannot read {path} as TorchScript, which torch.jit.save writes: {one_line(error)}"
        ) from error
    size = image_size([1, 3, None, None], "NCHW", path, settings)
    return converted(module.eval(), drawn(size), path)


def _exported(torch: Any, path: Path) -> Any:
    try:
        program = torch.export.load(path)
    except Exception as error:  # of any kind: a file decided what runs
        raise EncoderError(
            f"cannot read {path} as a program of torch.export: {one_line(error)}"
        ) from error
    network = convert_model(program, path)
    shape = network.input().get_partial_shape() if len(network.inputs) == 1 else None
    if shape is not None and shape.is_static and len(shape) == 4 and shape[1].get_length() == 3:
        pixels = drawn(tuple(shape.to_shape())[2:])
        check_conversion(network, pixels, program.module()(torch.from_numpy(pixels)), path)
    return network
