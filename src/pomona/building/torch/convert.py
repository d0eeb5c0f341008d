"""Module of PyTorch -> graph of OpenVINO with one input, the image, and one output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.errors import EncoderError
from pomona.messages import one_line
from pomona.runtime.openvino import import_openvino

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["check_conversion", "convert_model", "converted", "drawn", "with_one_output"]

_TOLERANCE = 1e-3  # of the largest number; float32 of two libraries differs by about 1e-6


def with_one_output(network: Any, compute: Callable[[Any, Any], tuple[str, Any]]) -> Any:
    """Return a `torch.nn.Module` from one tensor to one tensor.

    Args:
        network: another one, which it contains.
        compute: takes the network and pixels (1, 3, height, width) float32, or tokens; and returns
            the name of an output, such as `image_embeds`, and its tensor.
    """
    import torch

    class OneOutput(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network, self.output = network, ""

        def forward(self, given: Any) -> Any:
            self.output, tensor = compute(self.network, given)
            return tensor

    return OneOutput().eval()


def converted(module: Any, example: NDArray[Any], path: Path) -> Any:
    """Convert a module for inputs of one shape, and compare its output for an example.

    Args:
        module: takes one tensor. If it has an attribute `output`, that is the name of its only
            output.
        example: an input.
        path: the file or folder that it is from, for errors.

    Returns:
        An `openvino.Model`.

    Raises:
        EncoderError: the module does not take inputs of this shape; OpenVINO does not know an
            operation; or the graph computes another output than the module.
    """
    import torch

    given = torch.from_numpy(example)
    with torch.no_grad():
        try:
            _keep_positions(module, given)
            expected = module(given)
        except EncoderError:
            raise
        except Exception as error:  # of any kind: a file decided what runs
            raise EncoderError(
                f"{path} cannot take an input of {'x'.join(map(str, example.shape))}: "
                f"{one_line(error)}"
            ) from error
        network = convert_model(module, path, example_input=given)
    if name := getattr(module, "output", ""):
        if len(network.outputs) != 1:
            raise EncoderError(f"{path} has {len(network.outputs)} outputs, expected one vector")
        network.output().get_tensor().set_names({name})
    try:
        network.reshape([*example.shape])
        check_conversion(network, example, expected, path)
    except RuntimeError as error:
        raise EncoderError(
            f"OpenVINO cannot compute {path} after its conversion from PyTorch: "
            f"{one_line(str(error).strip().splitlines()[-1])}; export the network to ONNX"
        ) from error
    return network


def convert_model(module: Any, path: Path, **options: Any) -> Any:
    """Convert anything of PyTorch that OpenVINO knows.

    Raises:
        EncoderError: OpenVINO does not know an operation.
    """
    openvino = import_openvino()
    try:
        return openvino.convert_model(module, **options)
    except Exception as error:  # of any kind: tracing runs the module
        raise EncoderError(
            f"OpenVINO {openvino.__version__.split('-')[0]} cannot convert {path} from PyTorch: "
            f"{one_line(error)}"
        ) from error


def check_conversion(network: Any, example: NDArray[Any], expected: Any, path: Path) -> None:
    """Compare the output of a graph for an example with that of PyTorch.

    Args:
        network: an `openvino.Model` with one input, of a static shape.
        example: the input.
        expected: a tensor; anything else is not compared.
        path: the file or folder of the network, for errors.

    Raises:
        EncoderError: they differ by more than a thousandth of the largest number.
    """
    import torch

    if not isinstance(expected, torch.Tensor) or len(network.outputs) != 1:
        return
    core = import_openvino().Core()
    compiled = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    vector = compiled(example)[0]
    wanted = expected.detach().numpy()
    largest = np.abs(wanted).max()
    if vector.shape != wanted.shape or np.abs(vector - wanted).max() > _TOLERANCE * largest:
        raise EncoderError(
            f"{path} computes other vectors after its conversion from PyTorch to OpenVINO "
            f"{import_openvino().__version__.split('-')[0]}: export the network to ONNX"
        )


def drawn(size: tuple[int, ...]) -> NDArray[np.float32]:
    """Return numbers such as pixels after their normalization, (1, 3, height, width) float32."""
    shape = (1, 3, *size)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _keep_positions(module: Any, example: Any) -> None:
    """Replace the resizing of position embeddings by its result for this size.

    OpenVINO resizes without antialiasing, which changes the vectors of DINOv2 with registers.
    """
    for part in module.modules():
        if callable(resize := getattr(part, "interpolate_pos_encoding", None)):
            part.interpolate_pos_encoding = _Recorded(resize)
    module(example)
    for part in module.modules():
        resize = getattr(part, "interpolate_pos_encoding", None)
        if isinstance(resize, _Recorded):
            resize.is_fixed = resize.result is not None


class _Recorded:
    """A function that returns its first result for ever, once `is_fixed` is set."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.result, self.is_fixed = function, None, False

    def __call__(self, *args: Any, **options: Any) -> Any:
        if not self.is_fixed:
            self.result = self.function(*args, **options)
        return self.result
