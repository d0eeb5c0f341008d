"""A training step of MobileNetV2 for CPUs, compiled from step.cpp where it is first used."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pomona.io.location import cache_folder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

FEATURES = 1280
_STEM, _DEPTHWISE = 0, 1
_FLAGS = ["-O3", "-march=native", "-ffast-math", "-fopenmp", "-shared", "-fPIC", "-std=c++17"]


def _library() -> ctypes.CDLL:
    source = Path(__file__).with_name("step.cpp")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    built = cache_folder("pretraining") / f"mobilenet-step-{digest}.so"
    if not built.exists():
        built.parent.mkdir(parents=True, exist_ok=True)
        partial = built.with_suffix(f".{os.getpid()}")
        subprocess.run(["g++", *_FLAGS, str(source), "-o", str(partial)], check=True)
        partial.rename(built)
    library = ctypes.CDLL(str(built))
    library.net_new.restype = ctypes.c_void_p
    library.net_parameters.restype = ctypes.c_long
    library.net_moving.restype = ctypes.POINTER(ctypes.c_float)
    return library


_LIBRARY = _library()


def _at(array: Floats) -> ctypes.c_void_p:
    if array.dtype != np.float32 or not array.flags.c_contiguous:
        raise ValueError(f"expected contiguous float32, got {array.dtype}")
    return ctypes.c_void_p(array.ctypes.data)


class Network:
    """MobileNetV2 up to its pooled features, for one batch size and one image size.

    Parameters are one flat array: for every convolution its kernel, gamma and beta. Moving averages
    are kept aside, since they are not trained.
    """

    def __init__(self, batch: int, side: int) -> None:
        self.batch, self.side = batch, side
        self._handle = ctypes.c_void_p(_LIBRARY.net_new(batch, side))
        self.size = _LIBRARY.net_parameters(self._handle)
        self.layers = []
        for index in range(_LIBRARY.net_layers(self._handle)):
            told = (ctypes.c_long * 4)()
            _LIBRARY.net_layer(self._handle, index, told)
            self.layers.append(tuple(told))

    def __del__(self) -> None:
        _LIBRARY.net_free(self._handle)

    def moving(self, index: int) -> tuple[Floats, Floats]:
        """Moving mean and variance of a layer, as views."""
        channels = self.layers[index][2]
        views = [
            np.ctypeslib.as_array(_LIBRARY.net_moving(self._handle, index, which), (channels,))
            for which in (0, 1)
        ]
        return views[0], views[1]

    def forward(
        self, parameters: Floats, images: Floats, training: bool = True, momentum: float = 0.99
    ) -> Floats:
        """Images (batch, side, side, 3) in -1..1 -> features (batch, 1280)."""
        if images.shape != (self.batch, self.side, self.side, 3):
            raise ValueError(f"expected {self.batch} images of side {self.side}: {images.shape}")
        features = np.empty((self.batch, FEATURES), np.float32)
        _LIBRARY.net_forward(
            self._handle, _at(parameters), _at(images), _at(features), int(training),
            ctypes.c_float(momentum),
        )  # fmt: skip
        return features

    def last_block(self) -> Floats:
        """What the last block gave in `forward`, pooled: (batch, 320)."""
        pooled = np.empty((self.batch, self.layers[-1][1]), np.float32)
        _LIBRARY.net_last_block(self._handle, _at(pooled))
        return pooled

    def backward(self, parameters: Floats, gradient: Floats) -> Floats:
        """Gradient by the features -> gradient by the parameters; after `forward`."""
        result = np.empty(self.size, np.float32)
        _LIBRARY.net_backward(self._handle, _at(parameters), _at(gradient), _at(result))
        return result

    def to_keras(self, parameters: Floats) -> list[Floats]:
        """The arrays of `keras.applications.MobileNetV2(include_top=False)`, in its order."""
        arrays = []
        for index, (kind, inside, channels, start) in enumerate(self.layers):
            shape = _kernel_shape(kind, inside, channels)
            gamma = start + int(np.prod(shape))
            arrays += [
                parameters[start:gamma].reshape(shape),
                parameters[gamma : gamma + channels],
                parameters[gamma + channels : gamma + 2 * channels],
                *self.moving(index),
            ]
        return [array.copy() for array in arrays]

    def from_keras(self, arrays: list[Floats]) -> Floats:
        """The reverse of `to_keras`: returns the parameters, and sets the moving averages."""
        parameters = np.empty(self.size, np.float32)
        for index, (_, _, _, start) in enumerate(self.layers):
            kernel, gamma, beta, mean, variance = arrays[5 * index : 5 * index + 5]
            flat = np.concatenate([kernel.ravel(), gamma, beta])
            parameters[start : start + flat.size] = flat
            here = self.moving(index)
            here[0][:], here[1][:] = mean, variance
        return parameters


def initial(network: Network, seed: int) -> tuple[Floats, Floats]:
    """Start values of the parameters (He et al., 2015), and 1 where weights should decay."""
    rng = np.random.default_rng(seed)
    parameters = np.zeros(network.size, np.float32)
    decays = np.zeros(network.size, np.float32)
    for kind, inside, channels, start in network.layers:
        shape = _kernel_shape(kind, inside, channels)
        gamma = start + int(np.prod(shape))
        fan_in = shape[0] * shape[1] * (1 if kind == _DEPTHWISE else shape[2])
        parameters[start:gamma] = rng.normal(0, np.sqrt(2 / fan_in), gamma - start)
        decays[start:gamma] = 0 if kind == _DEPTHWISE else 1
        parameters[gamma : gamma + channels] = 1
    return parameters, decays


def adamw(
    parameters: Floats,
    gradient: Floats,
    moments: tuple[Floats, Floats],
    decays: Floats,
    rate: float,
    weight_decay: float,
    step: int,
) -> None:
    """Change `parameters` and `moments` in place by one step of AdamW."""
    _LIBRARY.adamw(
        ctypes.c_long(parameters.size), _at(parameters), _at(gradient), _at(moments[0]),
        _at(moments[1]), _at(decays), ctypes.c_float(rate), ctypes.c_float(weight_decay),
        ctypes.c_float(0.9), ctypes.c_float(0.99), ctypes.c_long(step),
    )  # fmt: skip


def _kernel_shape(kind: int, inside: int, channels: int) -> tuple[int, int, int, int]:
    if kind == _STEM:
        return (3, 3, 3, channels)
    return (3, 3, channels, 1) if kind == _DEPTHWISE else (1, 1, inside, channels)
