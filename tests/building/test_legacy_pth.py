"""PyTorch's old weight files are read without PyTorch, and no code in them runs."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pomona.building.legacy_pth import read_state_dict
from pomona.errors import EncoderError


class Global:
    """Pickles as a global name, such as torch.FloatStorage."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Stored:
    """Pickles as a reference to a storage."""

    def __init__(self, key: str, values: np.ndarray[Any, Any]) -> None:
        self.key, self.values = key, values


class Tensor:
    def __init__(self, stored: Stored, offset: int, shape: Any, strides: Any) -> None:
        self.arguments = stored, offset, shape, strides, False, OrderedDict()


class Pickler(pickle._Pickler):  # the one in Python, because it can write any global name
    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, Stored):
            kind = "LongStorage" if value.values.dtype == np.int64 else "FloatStorage"
            return ("storage", Global("torch", kind), value.key, "cpu", len(value.values), None)
        return None

    def save(self, value: Any, *rest: Any, **named: Any) -> None:
        if isinstance(value, Global):
            self.write(f"c{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Tensor):
            self.save(Global("torch._utils", "_rebuild_tensor_v2"))
            self.save(value.arguments)
            self.write(b"R")
        else:
            super().save(value, *rest, **named)


def pickled(value: Any) -> bytes:
    stream = io.BytesIO()
    Pickler(stream, 2).dump(value)
    return stream.getvalue()


def file_of(tensors: dict[str, Any], *storages: Stored) -> bytes:
    parts = [pickled(0x1950A86A20F9469CFC6C), pickled(1001), pickled({"little_endian": True})]
    parts += [pickled(OrderedDict(tensors)), pickled([storage.key for storage in storages])]
    for storage in storages:
        parts += [struct.pack("<q", len(storage.values)), storage.values.tobytes()]
    return b"".join(parts)


def test_strides_and_offsets_are_honoured() -> None:
    values = np.arange(24, dtype=np.float32)
    one, other = Stored("1", values), Stored("2", np.array([7], np.int64))
    content = file_of(
        {
            "transposed": Tensor(one, 0, (3, 4), (1, 3)),
            "part": Tensor(one, 12, (2, 3), (6, 2)),
            "count": Tensor(other, 0, (), ()),
        },
        one,
        other,
    )
    arrays = read_state_dict(content, "x.pth")
    assert np.array_equal(arrays["transposed"], values[:12].reshape(4, 3).T)
    assert np.array_equal(arrays["part"], [[12, 14, 16], [18, 20, 22]])
    assert arrays["count"] == 7
    assert all(array.flags.c_contiguous for array in arrays.values())


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((5,), (1,), 0), ((2, 2), (3, 1), 0), ((2,), (1,), 3), ((2,), (-1,), 1), ((9,), (0,), 0)],
)
def test_a_tensor_outside_of_its_storage_is_refused(
    shape: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> None:
    stored = Stored("1", np.zeros(4, np.float32))
    content = file_of({"a": Tensor(stored, offset, shape, strides)}, stored)
    with pytest.raises(EncoderError, match=r"x.pth cannot be read as weights of PyTorch"):
        read_state_dict(content, "x.pth")


class Attack:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


@pytest.mark.parametrize("place", ["first", "tensors"])
def test_no_code_in_the_file_runs(tmp_path: Any, place: str) -> None:
    attack = Attack(os.mkdir, str(tmp_path / "attacked"))
    content = pickled(attack) if place == "first" else file_of({"a": attack})
    with pytest.raises(EncoderError, match=r"names \w+\.mkdir, which weights do not need"):
        read_state_dict(content, "x.pth")
    assert not list(tmp_path.iterdir())


STORED = Stored("1", np.arange(6, dtype=np.float32))
WHOLE = file_of({"a": Tensor(STORED, 0, (2, 3), (3, 1))}, STORED)


@given(st.integers(0, len(WHOLE) - 1), st.binary(max_size=4), st.booleans())
def test_damaged_bytes_are_read_or_refused(at: int, put: bytes, ends: bool) -> None:
    content = WHOLE[:at] + put + (b"" if ends else WHOLE[at + len(put) :])
    with contextlib.suppress(EncoderError):
        arrays = read_state_dict(content, "x.pth")
        assert sum(array.nbytes for array in arrays.values()) <= len(WHOLE)
