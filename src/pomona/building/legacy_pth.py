"""Weights in PyTorch's file format before version 1.6, without PyTorch.

Such a file is a sequence: three pickles (a magic number, the version of the protocol, the sizes of
C types), the pickle of the state dict, the pickled list of the keys of its storages, and then each
storage: the number of its elements as int64, and its elements. All are little-endian. A tensor is a
view of a storage, by offset, shape and strides (`torch/serialization.py`, `_legacy_save`).
"""

from __future__ import annotations

import math
import pickle
import struct
from collections import OrderedDict
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pomona.errors import EncoderError

__all__ = ["read_state_dict"]

_MAGIC = 0x1950A86A20F9469CFC6C
_TYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype[Any]
    length: int


class _View(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_state_dict(content: bytes, name: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of a state dict, by name.

    No code in the file runs: the unpickler knows `OrderedDict`, two types of storage and the
    function that makes a tensor of a storage.

    Args:
        content: the bytes of the file.
        name: the name of the file, for errors.

    Raises:
        EncoderError: the file is damaged, of another format, or names other functions or types.
    """
    try:
        return _arrays(content)
    except (pickle.UnpicklingError, ValueError, TypeError, LookupError, EOFError) as error:
        raise EncoderError(
            f"{name} cannot be read as weights of PyTorch before version 1.6: {error}"
        ) from error
    except (AttributeError, ImportError, MemoryError, OverflowError, struct.error) as error:
        raise EncoderError(f"{name} is damaged: {error}") from error


def _arrays(content: bytes) -> dict[str, NDArray[Any]]:
    stream = BytesIO(content)
    if _Unpickler(stream).load() != _MAGIC:
        raise ValueError("it does not begin with PyTorch's magic number")
    for _ in range(2):
        _Unpickler(stream).load()
    views, keys = _Unpickler(stream).load(), _Unpickler(stream).load()
    if not isinstance(views, dict) or not all(isinstance(view, _View) for view in views.values()):
        raise ValueError("it is not a dict of tensors")
    known = {view.storage.key: view.storage for view in views.values()}
    storages = {}
    for key in keys:
        (length,) = struct.unpack("<q", stream.read(8))
        dtype = known[key].dtype
        if length != known[key].length:
            raise ValueError(f"storage {key} has {length} elements, not {known[key].length}")
        storages[key] = np.frombuffer(stream.read(length * dtype.itemsize), dtype, length)
    return {str(name): _tensor(view, storages[view.storage.key]) for name, view in views.items()}


def _tensor(view: _View, storage: NDArray[Any]) -> NDArray[Any]:
    """Return a contiguous copy of a view. Its strides count elements."""
    if (
        len(view.shape) != len(view.strides)
        or min((0, view.offset, *view.shape, *view.strides)) < 0
    ):
        raise ValueError(f"a tensor has the shape {view.shape} and the strides {view.strides}")
    last = view.offset + sum(
        (side - 1) * stride for side, stride in zip(view.shape, view.strides, strict=True)
    )
    outside = last >= len(storage) or math.prod(view.shape) > len(storage)
    if 0 not in view.shape and outside:
        raise ValueError(f"a tensor of shape {view.shape} ends after its storage")
    strides = [stride * storage.itemsize for stride in view.strides]
    part = np.lib.stride_tricks.as_strided(storage[view.offset :], view.shape, strides)
    return np.ascontiguousarray(part).reshape(view.shape)


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _View:
    if not isinstance(storage, _Storage) or type(offset) is not int:
        raise ValueError("a tensor has no storage")
    sizes = (*shape, *strides)
    if not all(type(size) is int for size in sizes):
        raise ValueError(f"a tensor has the sizes {sizes!r:.80}")
    return _View(storage, offset, tuple(shape), tuple(strides))


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which weights do not need")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, length, *_ = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or type(length) is not int:
            raise pickle.UnpicklingError(f"it refers to {pid!r:.80}, expected a storage")
        return _Storage(str(key), dtype, length)
