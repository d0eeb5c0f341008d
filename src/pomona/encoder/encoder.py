"""The encoder: everything that decides a feature vector, in one self-contained file.

The file's layout is that of `pomona.io.container`. Its sections are the OpenVINO graph (XML), its
constants, and the probes' vectors. An encoder with a text tower has four more.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pomona._version import __version__
from pomona.encoder.description import describe_preprocessing
from pomona.encoder.embedder import embedder
from pomona.encoder.endpoint import Endpoint
from pomona.encoder.preprocessing import Preprocessing
from pomona.encoder.text import SECTIONS as TEXT_SECTIONS
from pomona.encoder.text import TextTower
from pomona.errors import EncoderError
from pomona.io.container import Container
from pomona.io.location import read_file, without_password, written_whole
from pomona.messages import count_of
from pomona.notebook import html_card, html_pairs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pomona.worker.prepare import DecodeOptions

__all__ = [
    "LAYOUT_VERSION",
    "PRECISIONS",
    "RUNTIMES",
    "Encoder",
    "canonical_digest",
]

LAYOUT_VERSION = 1

PRECISIONS = ("f32", "bf16", "int8")
"""The values of `precision`."""

RUNTIMES = ("openvino", "onnxruntime")
"""The values of `runtime`."""

_MAGIC = b"POMONA\x00" + bytes([LAYOUT_VERSION])
_SECTIONS = ("graph", "constants", "probes")
_FILE = Container(
    _MAGIC, _SECTIONS, EncoderError, "a Pomona encoder", "build it again", TEXT_SECTIONS
)
_LARGEST_DIMENSION = 2**24  # numbers: 64 MB for each row
_LARGEST_INPUT = 2**24  # pixels: a worker draws the probes at this size before its first image


def canonical_digest(value: Any) -> str:
    """Return the SHA-256 (hex) of a JSON value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Encoder:
    """A network without its last layer, with its weights and its preprocessing.

    The graph takes (1, height, width, 3) RGB pixels and returns (1, dimension) float32. The
    arithmetic of the preprocessing is part of the graph, so no worker can get it wrong.

    Attributes:
        model: the network's name, such as `mobilenet_v2`.
        architecture: the network in words that do not change between versions of its library.
        weights: the source of the weights, for display: `imagenet`, `untrained:7`, a file's name.
        weights_sha256: digest of the weights' values, whatever file contained them.
        preprocessing: input size, resizing, cropping, channel order, mean and standard deviation.
        output: name of the layer whose output is the feature vector.
        ends_at_output: True if `architecture` is a digest of the network up to that layer. The
            name of the layer, which Keras may have numbered, then adds nothing.
        dimension: length of the feature vector.
        precision: arithmetic of the network, one of `PRECISIONS`.
        graph: OpenVINO's intermediate representation, XML; or an ONNX model.
        constants: the numbers that OpenVINO's graph refers to.
        runtime: what computes it, one of `RUNTIMES`.
        probes: (K, dimension) float32, little-endian: the vectors of the images of
            `pomona.runtime.parity`, computed when the encoder was built. A worker computes them
            again before its first image.
        calibration: for int8, the calibration images and the tool, for display; else empty.
        quantized_sha256: for int8, digest of the quantized constants; else empty.
        normalized: whether each vector has length 1 (L2).
        text: the network for texts, whose vectors are compared with those of images; None if the
            encoder is for images only. The fingerprint does not cover it.
        endpoint: the model server that computes it; None if each worker does. Neither the
            fingerprint nor the file covers it.
    """

    model: str
    architecture: str
    weights: str
    weights_sha256: str
    preprocessing: Preprocessing
    output: str
    dimension: int
    precision: str
    graph: bytes = field(repr=False)
    constants: bytes = field(repr=False)
    probes: bytes = field(repr=False, default=b"")
    runtime: str = "openvino"
    calibration: str = ""
    quantized_sha256: str = ""
    ends_at_output: bool = False
    normalized: bool = False
    text: TextTower | None = field(repr=False, default=None)
    endpoint: Endpoint | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the features: two encoders with the same one compute the same vectors.

        64 hex digits, a SHA-256 over architecture, weights, preprocessing, output, dimension,
        precision and runtime. It does not cover file names, or when, where and by which version
        the encoder was built. For int8 it also covers the quantized constants, because other
        images or another NNCF make other features.
        """
        meant = {
            "architecture": self.architecture,
            "weights_sha256": self.weights_sha256,
            "preprocessing": self.preprocessing.to_json(),
            "output": "" if self.ends_at_output else self.output,
            "dimension": self.dimension,
            "precision": self.precision,
            "runtime": self.runtime,
        }
        return canonical_digest(meant | self._quantization() | self._normalization())

    def _quantization(self) -> dict[str, str]:
        return {"quantized_sha256": self.quantized_sha256} if self.quantized_sha256 else {}

    def _normalization(self) -> dict[str, str]:
        return {"normalized": "L2"} if self.normalized else {}

    def provenance(self) -> dict[str, str]:
        """Return the provenance keys that describe the encoder, as a feature table stores them."""
        return {
            "fingerprint": self.fingerprint,
            "model": self.model,
            "architecture": self.architecture,
            "weights": self.weights,
            "weights_sha256": self.weights_sha256,
            **describe_preprocessing(self.preprocessing),
            "output": self.output,
            "dimension": str(self.dimension),
            "precision": self.precision,
            **({"calibration": self.calibration} if self.calibration else {}),
            **self._quantization(),
            **self._normalization(),
            "runtime": self.runtime,
            "pomona_version": __version__,
        }

    def _repr_html_(self) -> str:
        title = f"{self.model} with weights {self.weights}: "
        title += f"{count_of(self.dimension, 'number')}, {self.size / 1e6:.1f} MB"
        return html_card(title, html_pairs("encoder", self.provenance()))

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        return _FILE.pack(
            {
                "model": self.model,
                "architecture": self.architecture,
                "weights": self.weights,
                "weights_sha256": self.weights_sha256,
                "preprocessing": self.preprocessing.to_json(),
                "output": self.output,
                "ends_at_output": self.ends_at_output,
                "dimension": self.dimension,
                "precision": self.precision,
                "calibration": self.calibration,
                "quantized_sha256": self.quantized_sha256,
                "runtime": self.runtime,
                **({"normalized": True} if self.normalized else {}),
                **({"text": self.text.to_json()} if self.text else {}),
            },
            {name: getattr(self, name) for name in _SECTIONS}
            | (self.text.sections() if self.text else {}),
        )

    @classmethod
    def from_bytes(cls, blob: bytes, name: str = "encoder") -> Encoder:
        """Read what `to_bytes` returned, after checking its digest.

        Args:
            blob: the bytes of the file.
            name: the name of the file, for errors.

        Raises:
            EncoderError: it is not an encoder, has another layout version, or is damaged.
        """
        return _FILE.unpack(blob, name, cls._from_parts)

    @classmethod
    def _from_parts(cls, header: dict[str, Any], sections: dict[str, bytes]) -> Encoder:
        preprocessing = Preprocessing.from_json(header.pop("preprocessing"))
        text = header.pop("text", None)
        tower = None if text is None else TextTower.from_parts(text, sections)
        # A header with one of these names is an error.
        contents: dict[str, Any] = {name: sections[name] for name in _SECTIONS}
        encoder = cls(**header, preprocessing=preprocessing, text=tower, **contents)
        encoder.check()
        return encoder

    def check(self) -> None:
        """Check the values. The digest only shows that the file was not changed later.

        Raises:
            ValueError: with the value.
        """
        for each in fields(self):
            if each.type == "str" and not isinstance(getattr(self, each.name), str):
                raise ValueError(f"{each.name} is {getattr(self, each.name)!r:.80}, expected text")
        for name in ("ends_at_output", "normalized"):
            if type(value := getattr(self, name)) is not bool:
                raise ValueError(f"{name} is {value!r:.80}, expected true or false")
        if type(self.dimension) is not int or not 0 < self.dimension <= _LARGEST_DIMENSION:
            raise ValueError(
                f"dimension is {self.dimension!r:.80}, expected 1 to {_LARGEST_DIMENSION} numbers"
            )
        if self.preprocessing.height * self.preprocessing.width > _LARGEST_INPUT:
            raise ValueError(
                f"its input is {self.preprocessing.height} x {self.preprocessing.width} pixels, "
                f"expected no more than {_LARGEST_INPUT}"
            )
        if self.precision not in PRECISIONS or self.runtime not in RUNTIMES:
            raise ValueError(f"precision {self.precision:.80} on runtime {self.runtime:.80}")
        for probes in (self.probes, self.text.probes if self.text else b""):
            if len(probes) % (4 * self.dimension):
                raise ValueError(
                    f"{len(probes)} bytes of probes are not vectors of {self.dimension} numbers"
                )

    @property
    def size(self) -> int:
        """Return the number of bytes of its networks."""
        text = self.text.sections().values() if self.text else ()
        return len(self.graph) + len(self.constants) + sum(map(len, text))

    def for_images(self) -> Encoder:
        """Return the encoder with what workers need: no text tower, no network of a server."""
        if self.endpoint is not None:
            return replace(self, text=None, graph=b"", constants=b"")
        return self if self.text is None else replace(self, text=None)

    def embed(
        self,
        images: Any,
        *,
        decode: DecodeOptions | None = None,
        errors: Literal["raise", "nan"] = "raise",
    ) -> NDArray[np.float32]:
        """Compute the vectors of some images, as `pomona.embed` does.

            encoder = pomona.Encoder.load("fruit.encoder")
            vectors = encoder.embed(["a.jpg", "b.jpg"])  # (2, D)

        Args:
            images: one image or several: paths, bytes, PIL images, or arrays of uint8.
            decode: how files become pixels; by default exactly.
            errors: `raise` an error for an image without a vector, or return `nan` in its row.

        Returns:
            (N, D) float32, one row for each image, in their order.

        Raises:
            ImageError: an image cannot be read or decoded.
            EncoderError: the encoder cannot be loaded on this machine.
            UsageError: an item of `images` is not an image, or `errors` is unknown.
        """
        options = {} if decode is None else {"decode": decode}
        vectors: NDArray[np.float32] = embedder()(images, self, errors=errors, **options)
        return vectors

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file atomically.

        Raises:
            EncoderError: the folder is missing or not writable.
        """
        with written_whole(Path(path), EncoderError) as draft:
            draft.write_bytes(self.to_bytes())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Encoder:
        """Read an encoder from a file that `save` wrote.

        Args:
            path: a path on this machine, or a URI such as `s3a://bucket/fruit.encoder`.

        Raises:
            EncoderError: the file is missing, unreadable, or not a complete encoder.
        """
        name = without_password(os.fspath(path))
        try:
            blob = read_file(os.fspath(path), mark=_MAGIC[:7])
        except OSError as error:
            is_wrong = isinstance(error, FileNotFoundError | IsADirectoryError)
            advice = "; give the file that 'pomona encoder build' wrote" if is_wrong else ""
            raise EncoderError(
                f"cannot read the encoder {name}: {error.strerror or error}{advice}"
            ) from error
        return cls.from_bytes(blob, name)
