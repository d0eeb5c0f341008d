"""Puts TensorFlow's way of resizing into graphs that Keras' OpenVINO backend exported.

A model can contain a `Resizing` or an `UpSampling2D`. The default, bilinear, is the same in both.
For `nearest`, OpenVINO rounds up if an image becomes smaller (Keras requests this: "simple"). Its
bicubic repeats the border, which TensorFlow omits, and its antialiasing differs. Features differed
by 0.7, 0.02 and 0.3 of their largest number. Sizes are fixed here, so each resizing is a product
with constant matrices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["antialiased_matrix", "bicubic_matrix", "nearest_indices", "resize_as_tensorflow"]

_TABLE = 1024  # steps between two pixels in TensorFlow's table of the kernel
_A = -0.5  # of Keys' cubic: Keys, Cubic convolution interpolation, IEEE TASSP 29(6), 1981


def resize_as_tensorflow(model: Any) -> None:
    """Rewrite a graph in place.

    Args:
        model: an `openvino.Model` that Keras exported.
    """
    from openvino import opset8

    for operation in model.get_ordered_ops():
        if operation.get_type_name() != "Interpolate":
            continue
        attributes = operation.get_attributes()
        mode, is_antialiased = attributes["mode"], attributes["antialias"]
        if mode not in ("nearest", "cubic") and not is_antialiased:
            continue
        data, after = operation.input_value(0), operation.output(0).get_partial_shape()
        before = data.get_partial_shape()
        for axis in operation.input_value(2).get_node().get_vector():
            old, new = before[int(axis)].get_length(), after[int(axis)].get_length()
            if mode == "nearest":
                indices = nearest_indices(old, new)
                data = opset8.gather(data, opset8.constant(indices), opset8.constant(axis))
            else:
                matrix = (
                    antialiased_matrix(old, new, cubic=mode == "cubic")
                    if is_antialiased
                    else bicubic_matrix(old, new)
                )
                data = _product(data, matrix, int(axis), before.rank.get_length())
            data = data.output(0)
        for target in operation.output(0).get_target_inputs():
            target.replace_source_output(data)
    model.validate_nodes_and_infer_types()


def nearest_indices(old: int, new: int) -> NDArray[np.int64]:
    """Return the index among `old` pixels for each of `new` ones: (new,) int64.

    TensorFlow's `ResizeNearestNeighbor` with `half_pixel_centers`.
    """
    places = np.floor((np.arange(new, dtype=np.float32) + 0.5) * np.float32(old / new))
    indices: NDArray[np.int64] = np.minimum(places, old - 1).astype(np.int64)
    return indices


def bicubic_matrix(old: int, new: int) -> NDArray[np.float32]:
    """Return the weights of `old` pixels in each of `new` ones: (new, old) float32, rows sum to 1.

    TensorFlow's `ResizeBicubic` with `half_pixel_centers`: Keys' cubic, tabulated, without pixels
    beyond the border.
    """
    places = (np.arange(new) + 0.5) * np.float32(old / new) - 0.5
    below = np.floor(places)
    far = np.rint((places - below) * _TABLE) / _TABLE
    matrix = np.zeros((new, old))
    for step in (-1, 0, 1, 2):
        pixel = (below + step).astype(int)
        inside = (pixel >= 0) & (pixel < old)
        rows = np.flatnonzero(inside)
        matrix[rows, pixel[rows]] += _keys(far - step)[rows]
    return _normalized(matrix)


def antialiased_matrix(old: int, new: int, *, cubic: bool) -> NDArray[np.float32]:
    """Return the weights of `old` pixels in each of `new` ones: (new, old) float32, rows sum to 1.

    TensorFlow's `ScaleAndTranslate` with antialiasing: a triangle, or Keys' cubic. It is as wide as
    a new pixel if that is larger than an old one.
    """
    ratio = old / new
    centres = (np.arange(new)[:, None] + 0.5) * ratio
    away = (np.arange(old) + 0.5 - centres) / max(ratio, 1.0)
    return _normalized(_keys(away) if cubic else np.maximum(1 - np.abs(away), 0.0))


def _keys(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Keys' cubic for distances in pixels."""
    x = np.abs(distance)
    near = ((_A + 2) * x - (_A + 3)) * x * x + 1
    wide = ((_A * x - 5 * _A) * x + 8 * _A) * x - 4 * _A
    kernel: NDArray[np.float64] = np.where(x <= 1, near, np.where(x < 2, wide, 0.0))
    return kernel


def _normalized(matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """Scale the rows so that each sums to 1."""
    scaled: NDArray[np.float32] = (matrix / matrix.sum(axis=1, keepdims=True)).astype(np.float32)
    return scaled


def _product(data: Any, matrix: NDArray[np.float32], axis: int, rank: int) -> Any:
    """Multiply along one axis."""
    from openvino import opset8

    order = [a for a in range(rank) if a != axis] + [axis]
    moved = opset8.transpose(data, opset8.constant(np.array(order)))
    resized = opset8.matmul(moved, opset8.constant(matrix), False, True)
    return opset8.transpose(resized, opset8.constant(np.argsort(order)))
