"""The metadata of a served model, as the Open Inference Protocol v2 has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pomona.runtime.endpoint.dialect import Refused

__all__ = ["Model", "Tensor"]

_ADVICE = "serve what 'pomona encoder export' wrote"


class Tensor(NamedTuple):
    """An input or output: a dimension of -1 may have any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """A model with one input and one output.

    Attributes:
        versions: its versions on the server; empty if the server does not count them.
        input: takes (N, height, width, 3) UINT8.
        output: gives (N, D) FP32.
    """

    versions: tuple[str, ...]
    input: Tensor
    output: Tensor

    @classmethod
    def of(cls, metadata: dict[str, Any]) -> Model:
        """Read it from the server's answer.

        Raises:
            Refused: it takes or gives something else.
        """
        try:
            inputs, outputs = (
                [
                    Tensor(str(each["name"]), str(each["datatype"]), tuple(map(int, each["shape"])))
                    for each in metadata[side]
                ]
                for side in ("inputs", "outputs")
            )
        except (KeyError, TypeError, ValueError) as error:
            raise Refused("it does not say what its model takes and gives") from error
        taken, given = _shown(inputs), _shown(outputs)
        if len(inputs) != 1 or inputs[0].datatype != "UINT8":
            raise Refused(f"its model takes {taken}, expected UINT8 pixels: {_ADVICE}")
        if len(outputs) != 1 or outputs[0].datatype != "FP32":
            raise Refused(f"its model gives {given}, expected FP32 vectors: {_ADVICE}")
        versions = tuple(str(version) for version in metadata.get("versions") or ())
        return cls(versions, inputs[0], outputs[0])

    @property
    def newest(self) -> str | None:
        """Return the highest version, or None if there is none that can be named."""
        numbers = [version for version in self.versions if version.isdecimal()]
        return max(numbers, key=int, default=None)

    @property
    def images_at_once(self) -> int | None:
        """Return how many images a request must have; None for any number."""
        first = self.input.shape[0] if len(self.input.shape) == 4 else -1
        return first if first > 0 else None


def _shown(tensors: Sequence[Tensor]) -> str:
    each = [f"{tensor.datatype} {list(tensor.shape)}" for tensor in tensors]
    return " and ".join(each) or "nothing"
