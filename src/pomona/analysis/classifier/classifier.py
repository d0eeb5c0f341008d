"""The classifier: a linear probe on feature vectors, in one self-contained file.

The file's layout is that of `pomona.io.container`. Its header has the classes, the encoder's
provenance and the training; its sections are mean, scale, coefficients and intercept as float32,
and the encoder, which may be empty. Classifiers that `train` made also have a section of examples.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.analysis.classifier.nearness import nearest_others, nearness
from pomona.analysis.vectors import unit
from pomona.encoder.encoder import Encoder
from pomona.encoder.text import PROBABILITIES
from pomona.errors import ClassifierError
from pomona.io.container import Container
from pomona.io.location import read_file, written_whole
from pomona.notebook import html_card, html_pairs
from pomona.table.differences import differences

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = ["Classifier"]

_ARRAYS = ("mean", "scale", "coefficients", "intercept")
_FLOAT = np.dtype("<f4")
_FILE = Container(
    b"POMCLAS\x01",
    (*_ARRAYS, "encoder"),
    ClassifierError,
    "a Pomona classifier",
    "train it again",
    optional=("examples",),
)


@dataclass(frozen=True, eq=False)
class Classifier:
    """Multinomial logistic regression on standardised vectors.

        logits = (x - mean) / scale @ coefficients.T + intercept;  probabilities = softmax(logits)

    Attributes:
        classes: K names.
        mean: (D,) float32, of the training vectors.
        scale: (D,) float32, standard deviation of the training vectors, with 1 instead of 0.
        coefficients: (K, D) float32.
        intercept: (K,) float32.
        provenance: of the training vectors: the encoder, and how images were decoded.
        training: settings of the training and result of the test, as JSON values.
        encoder: the encoder of the vectors; None if the file does not contain it.
        probability: `softmax`; or `sigmoid`, for each class alone, as in SigLIP.
        unit_vectors: whether x is divided by its length (L2) first, as in CLIP and SigLIP.
        examples: (M, D) float32, vectors of some training images, of length 1; None if it was made
            without images.

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
    probability: str = "softmax"
    unit_vectors: bool = False
    examples: Floats | None = field(repr=False, default=None)

    def __post_init__(self) -> None:
        many, dimension = len(self.classes), len(self.mean)
        expected = [(dimension,), (dimension,), (many, dimension), (many,)]
        arrays = [getattr(self, name) for name in _ARRAYS]
        if self.examples is not None:
            expected.append((len(self.examples), dimension))
            arrays.append(self.examples)
        if many < 2 or len(set(self.classes)) != many or [a.shape for a in arrays] != expected:
            raise ClassifierError(f"arrays of these shapes do not fit {many} classes")
        if not all(np.isfinite(a).all() for a in arrays) or not (self.scale > 0).all():
            raise ClassifierError("a classifier's numbers must be finite, and its scale above 0")
        if self.probability not in PROBABILITIES or type(self.unit_vectors) is not bool:
            raise ClassifierError(
                f"probability {self.probability!r:.80} or unit_vectors {self.unit_vectors!r:.80} "
                "is unknown"
            )
        if self.encoder is not None:
            self.check_same_encoder(self.encoder.provenance(), "its encoder")

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the encoder whose vectors it takes."""
        return self.provenance["fingerprint"]

    @property
    def dimension(self) -> int:
        """Return the length D of the vectors that it takes."""
        return len(self.mean)

    def probabilities(self, vectors: Floats) -> NDArray[np.float64]:
        """Return probabilities (B, K) for vectors (B, D) float32.

        With softmax, each row sums to 1.
        """
        from scipy.special import expit, softmax

        if self.unit_vectors:
            vectors = unit(vectors)
        standard = (vectors - self.mean) / self.scale  # (B, D) float32
        logits = (standard @ self.coefficients.T + self.intercept).astype(np.float64)  # (B, K)
        is_softmax = self.probability == "softmax"
        found: NDArray[np.float64] = softmax(logits, axis=1) if is_softmax else expit(logits)
        return found

    def nearness(self, vectors: Floats) -> NDArray[np.float64]:
        """Return how near vectors (B, D) float32 are to those of the training: (B,), 0 to 1.

        Of images like those of the training, one in a hundred has 0.01 or less. Images of none of
        the classes have small values, also if their probability is high.

        Raises:
            ClassifierError: the classifier was made without images, or its file has none.
        """
        return nearness(vectors, *self._examples)

    @cached_property
    def _examples(self) -> tuple[Floats, Floats]:
        """The examples, and the cosine of each to its nearest other one, sorted."""
        if self.examples is None:
            raise ClassifierError(
                "`unlike` compares images with those of the training, and this classifier has "
                "none: give one that 'pomona train' made"
            )
        return self.examples, nearest_others(self.examples)

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
                f"the classifier takes vectors of {self.encoder_name}, but {what} is of another "
                f"encoder ({provenance['fingerprint'][:12]}), which differs in "
                f"{differences(self.provenance, provenance)}: give vectors of the first one, or "
                "train a classifier on the other"
            )

    @property
    def encoder_name(self) -> str:
        """Return the name of the encoder, for messages."""
        source = self.provenance
        return (
            f"{source.get('model', '?')} with weights {source.get('weights', '?')} "
            f"({self.fingerprint[:12]})"
        )

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        sections = {
            name: np.ascontiguousarray(getattr(self, name), _FLOAT).tobytes() for name in _ARRAYS
        }
        sections["encoder"] = self.encoder.to_bytes() if self.encoder else b""
        if self.examples is not None:
            sections["examples"] = np.ascontiguousarray(self.examples, _FLOAT).tobytes()
        return _FILE.pack(
            {
                "classes": list(self.classes),
                "dimension": self.dimension,
                "provenance": dict(self.provenance),
                "training": dict(self.training),
                **({} if self.probability == "softmax" else {"probability": self.probability}),
                **({"unit_vectors": True} if self.unit_vectors else {}),
            },
            sections,
        )

    @classmethod
    def from_bytes(cls, content: bytes, name: str = "classifier") -> Classifier:
        """Read what `to_bytes` returned, after checking its digest.

        Args:
            content: the bytes of the file.
            name: the name of the file, for errors.

        Raises:
            ClassifierError: it is not a classifier, has another layout version, or is damaged.
        """
        return _FILE.unpack(content, name, cls._from_parts)

    @classmethod
    def _from_parts(cls, header: dict[str, Any], sections: dict[str, bytes]) -> Classifier:
        _check_words("classes", header["classes"])
        _check_words("provenance", [*header["provenance"], *header["provenance"].values()])
        if "fingerprint" not in header["provenance"] or not isinstance(header["training"], dict):
            raise ValueError("no fingerprint, or no settings of the training")
        arrays = {name: np.frombuffer(sections[name], _FLOAT) for name in _ARRAYS}
        arrays["coefficients"] = arrays["coefficients"].reshape(-1, header["dimension"])
        return cls(
            tuple(header["classes"]),
            **arrays,
            provenance=header["provenance"],
            training=header["training"],
            encoder=Encoder.from_bytes(sections["encoder"]) if sections["encoder"] else None,
            probability=header.get("probability", "softmax"),
            unit_vectors=header.get("unit_vectors", False),
            examples=np.frombuffer(sections["examples"], _FLOAT).reshape(-1, header["dimension"])
            if "examples" in sections
            else None,
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
            ClassifierError: the file is missing, unreadable, or not a complete classifier.
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
        facts = {
            "classes": ", ".join(self.classes),
            "encoder": "included" if self.encoder else "not included",
            **self.training,
        }
        return html_card(title, html_pairs("training", facts))


def _check_words(what: str, words: Any) -> None:
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise TypeError(f"{what} are not a list of strings")
