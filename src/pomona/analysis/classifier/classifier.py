r"""The classifier: a linear probe on feature vectors, in one self-contained file.

The file's layout, little-endian, is that of an encoder's:

    8 bytes   magic b"POMCLAS\x01" (the last byte is the version of this layout)
    32 bytes  SHA-256 of all that follows
    8 bytes   length of the header
    header    JSON, UTF-8: classes, the encoder's provenance, how it was trained, section lengths
    sections  mean, scale, coefficients, intercept: float32; the encoder, or nothing

Reading it runs no code: no pickle, no archive to unpack.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.encoder.encoder import Encoder
from pomona.errors import ClassifierError
from pomona.io.location import read_file, written_whole
from pomona.notebook import html_card, html_pairs
from pomona.table.differences import differences

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = ["Classifier"]

_MAGIC = b"POMCLAS\x01"
_LENGTH = struct.Struct("<Q")
_DIGEST_BYTES = 32
_BODY = len(_MAGIC) + _DIGEST_BYTES
_ARRAYS = ("mean", "scale", "coefficients", "intercept")
_FLOAT = np.dtype("<f4")


@dataclass(frozen=True, eq=False)
class Classifier:
    """Multinomial logistic regression on standardised vectors.

        logits = (x - mean) / scale @ coefficients.T + intercept;  probabilities = softmax(logits)

    Attributes:
        classes: K names, sorted.
        mean: (D,) float32, of the training vectors.
        scale: (D,) float32, standard deviation of the training vectors; 1 in place of 0.
        coefficients: (K, D) float32.
        intercept: (K,) float32.
        provenance: of the training vectors: the encoder, and how images were decoded.
        training: settings of the training and result of the test, as JSON values.
        encoder: turns images into such vectors; None if the file does not contain it.

    Raises:
        ClassifierError: the shapes do not match, or a number is not finite.
    """

    classes: tuple[str, ...]
    mean: Floats = field(repr=False)
    scale: Floats = field(repr=False)
    coefficients: Floats = field(repr=False)
    intercept: Floats = field(repr=False)
    provenance: Mapping[str, str] = field(repr=False)
    training: Mapping[str, Any] = field(repr=False, default_factory=dict)
    encoder: Encoder | None = field(repr=False, default=None)

    def __post_init__(self) -> None:
        many, dimension = len(self.classes), len(self.mean)
        expected = [(dimension,), (dimension,), (many, dimension), (many,)]
        arrays = [getattr(self, name) for name in _ARRAYS]
        if many < 2 or len(set(self.classes)) != many or [a.shape for a in arrays] != expected:
            raise ClassifierError(f"{many} classes do not go with arrays of these shapes")
        if not all(np.isfinite(a).all() for a in arrays) or not (self.scale > 0).all():
            raise ClassifierError("a classifier's numbers must be finite, its scale above 0")
        if self.encoder is not None:
            self.check_same_encoder(self.encoder.provenance(), "the encoder given with it")

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the encoder whose vectors it takes."""
        return self.provenance["fingerprint"]

    @property
    def dimension(self) -> int:
        """Return the length D of the vectors that it takes."""
        return len(self.mean)

    def probabilities(self, vectors: Floats) -> NDArray[np.float64]:
        """Return probabilities (B, K) for vectors (B, D) float32; each row sums to 1."""
        from scipy.special import softmax

        standard = (vectors - self.mean) / self.scale  # (B, D) float32
        logits = standard @ self.coefficients.T + self.intercept  # (B, K)
        found: NDArray[np.float64] = softmax(logits.astype(np.float64), axis=1)
        return found

    def check_same_encoder(self, provenance: Mapping[str, str], what: str) -> None:
        """Check that vectors come from the encoder that this classifier was trained on.

        Args:
            provenance: of the vectors.
            what: the name of their table, for the error.

        Raises:
            ClassifierError: they come from another encoder.
        """
        if provenance["fingerprint"] != self.fingerprint:
            raise ClassifierError(
                f"the classifier takes vectors of {self.encoder_name}, and {what} is of another "
                f"encoder ({provenance['fingerprint'][:12]}), which differs in "
                f"{differences(self.provenance, provenance)}: give what that one made, or train "
                "anew"
            )

    @property
    def encoder_name(self) -> str:
        """Return the name of the encoder, for messages."""
        known = self.provenance
        return (
            f"{known.get('model', '?')} with weights {known.get('weights', '?')} "
            f"({self.fingerprint[:12]})"
        )

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        sections = {
            name: np.ascontiguousarray(getattr(self, name), _FLOAT).tobytes() for name in _ARRAYS
        }
        sections["encoder"] = self.encoder.to_bytes() if self.encoder else b""
        header = json.dumps(
            {
                "classes": list(self.classes),
                "dimension": self.dimension,
                "provenance": dict(self.provenance),
                "training": dict(self.training),
                "sections": {name: len(content) for name, content in sections.items()},
            },
            sort_keys=True,
        ).encode()
        body = b"".join((_LENGTH.pack(len(header)), header, *sections.values()))
        return _MAGIC + hashlib.sha256(body).digest() + body

    @classmethod
    def from_bytes(cls, content: bytes, name: str = "classifier") -> Classifier:
        """Read what `to_bytes` returned, after checking its digest.

        Args:
            content: the bytes of the file.
            name: the name of the file, for errors.

        Raises:
            ClassifierError: it is not a classifier, has another layout version, or is damaged.
        """
        if content[:7] != _MAGIC[:7] or len(content) < _BODY:
            raise ClassifierError(
                f"{name} is not a classifier of Pomona's: give what 'pomona train' wrote"
            )
        if content[: len(_MAGIC)] != _MAGIC:
            raise ClassifierError(
                f"{name} has layout version {content[7]}, this Pomona reads {_MAGIC[7]}: train it "
                "again with this version"
            )
        if hashlib.sha256(content[_BODY:]).digest() != content[len(_MAGIC) : _BODY]:
            raise ClassifierError(
                f"{name} is damaged: its content does not match its SHA-256; copy or train it again"
            )
        try:
            return cls._from_body(content[_BODY:])
        except (
            *(KeyError, TypeError, ValueError, AttributeError, struct.error),
            *(OverflowError, RecursionError),
        ) as error:
            raise ClassifierError(f"{name} has a header that cannot be read: {error!r}") from error

    @classmethod
    def _from_body(cls, body: bytes) -> Classifier:
        (length,) = _LENGTH.unpack_from(body)
        end = _LENGTH.size + length
        header = json.loads(body[_LENGTH.size : end])
        found: dict[str, bytes] = {}
        for name in (*_ARRAYS, "encoder"):
            size = header["sections"][name]
            if not isinstance(size, int) or size < 0:
                raise ValueError(f"section {name} has {size!r} bytes")
            start, end = end, end + size
            found[name] = body[start:end]
        if end != len(body):
            raise ValueError(f"sections end at byte {end} of {len(body)}")
        _check_words("classes", header["classes"])
        _check_words("provenance", [*header["provenance"], *header["provenance"].values()])
        if "fingerprint" not in header["provenance"] or not isinstance(header["training"], dict):
            raise ValueError("no fingerprint, or no account of the training")
        arrays = {name: np.frombuffer(found[name], _FLOAT) for name in _ARRAYS}
        arrays["coefficients"] = arrays["coefficients"].reshape(-1, header["dimension"])
        return cls(
            tuple(header["classes"]),
            **arrays,
            provenance=header["provenance"],
            training=header["training"],
            encoder=Encoder.from_bytes(found["encoder"]) if found["encoder"] else None,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file atomically.

        Raises:
            ClassifierError: the folder is missing or not writable.
        """
        with written_whole(Path(path), ClassifierError) as draft:
            draft.write_bytes(self.to_bytes())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Classifier:
        """Read a classifier from a file that `save` wrote.

        Raises:
            ClassifierError: the file is missing, unreadable, or not a whole classifier.
        """
        try:
            content = read_file(os.fspath(path))
        except OSError as error:
            raise ClassifierError(
                f"cannot read the classifier {path}: {error.strerror or error}; give the file that "
                "'pomona train' wrote"
            ) from error
        return cls.from_bytes(content, str(path))

    def _repr_html_(self) -> str:
        title = f"Classifier of {len(self.classes)} classes on {self.encoder_name}"
        known = {
            "classes": ", ".join(self.classes),
            "encoder": "inside" if self.encoder else "not inside",
            **self.training,
        }
        return html_card(title, html_pairs("training", known))


def _check_words(what: str, words: Any) -> None:
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise TypeError(f"{what} that are no texts")
