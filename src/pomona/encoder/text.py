"""The text tower of an encoder: texts -> vectors in the same space as those of images."""

from __future__ import annotations

import hashlib
import math
import re
import string
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

__all__ = ["CLEANINGS", "PROBABILITIES", "SECTIONS", "TextTower"]

CLEANINGS = ("none", "lower", "canonical")
"""What is done to a text before the tokenizer, which may change it further.

`lower` is that of SigLIP 2. `canonical` is `canonicalize_text` of SigLIP's tokenizer in
transformers: lower case, without ASCII punctuation, with single spaces.
"""

PROBABILITIES = ("softmax", "sigmoid")
"""How scores of texts become probabilities: of one among all texts (CLIP), or of each (SigLIP)."""

SECTIONS = ("text_graph", "text_constants", "text_tokenizer", "text_probes")
"""The sections of an encoder's file that hold a text tower."""

_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, kw_only=True)
class TextTower:
    """A network for texts, with its tokenizer.

    The graph takes the numbers of tokens, (1, context) int64, and returns (1, dimension) float32.

        score = logit_scale * cosine(image, text) + logit_bias

    Attributes:
        graph: OpenVINO's intermediate representation, XML.
        constants: the numbers that the graph refers to.
        tokenizer: `tokenizer.json` of the library tokenizers, with padding and truncation.
        probes: (K, dimension) float32, little-endian: the vectors of
            `pomona.runtime.text.PROBE_TEXTS`, computed when the encoder was built.
        context: number of tokens of each text, with padding.
        cleaning: one of `CLEANINGS`.
        probability: one of `PROBABILITIES`.
        logit_scale: of the trained model; None if its files do not have it.
        logit_bias: of the trained model; 0 for CLIP.
    """

    graph: bytes = field(repr=False)
    constants: bytes = field(repr=False)
    tokenizer: bytes = field(repr=False)
    probes: bytes = field(repr=False, default=b"")
    context: int
    cleaning: str
    probability: str
    logit_scale: float | None = None
    logit_bias: float = 0.0

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 (hex) of everything that decides the vector of a text."""
        digest = hashlib.sha256(self.cleaning.encode())
        for part in (self.graph, self.constants, self.tokenizer):
            digest.update(hashlib.sha256(part).digest())
        return digest.hexdigest()

    def cleaned(self, text: str) -> str:
        """Return a text as the tokenizer takes it."""
        if self.cleaning == "none":
            return text
        if self.cleaning == "canonical":
            text = re.sub(r"\s+", " ", text.lower().translate(_PUNCTUATION)).strip()
        return text.lower()

    def describe(self) -> str:
        """Return the tower in words: 77 tokens, softmax of 100 * cosine."""
        cleaned = {"none": "", "lower": ", lower case", "canonical": ", without punctuation"}
        scale = "?" if self.logit_scale is None else f"{self.logit_scale:.5g}"
        bias = f" {self.logit_bias:+.5g}" if self.logit_bias else ""
        return (
            f"{self.context} tokens{cleaned[self.cleaning]}, {self.probability} of "
            f"{scale} * cosine{bias}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the values that are not sections of the file."""
        return {
            "context": self.context,
            "cleaning": self.cleaning,
            "probability": self.probability,
            "logit_scale": self.logit_scale,
            "logit_bias": self.logit_bias,
        }

    def sections(self) -> dict[str, bytes]:
        """Return the sections of the file, by the names in `SECTIONS`."""
        parts = (self.graph, self.constants, self.tokenizer, self.probes)
        return dict(zip(SECTIONS, parts, strict=True))

    @classmethod
    def from_parts(cls, values: Any, sections: dict[str, bytes]) -> TextTower:
        """Return the tower that `to_json` and `sections` described.

        Raises:
            ValueError: a value is not valid; or another error about values.
        """
        graph, constants, tokenizer, probes = (sections[name] for name in SECTIONS)
        tower = cls(graph=graph, constants=constants, tokenizer=tokenizer, probes=probes, **values)
        tower.check()
        return tower

    def check(self) -> None:
        """Check the values.

        Raises:
            ValueError: with the value.
        """
        if type(self.context) is not int or not 0 < self.context <= 2**16:
            raise ValueError(f"the text tower has a context of {self.context!r:.80} tokens")
        if self.cleaning not in CLEANINGS or self.probability not in PROBABILITIES:
            raise ValueError(
                f"the text tower has cleaning {self.cleaning!r:.80} and probability "
                f"{self.probability!r:.80}"
            )
        for name in ("logit_scale", "logit_bias"):
            value = getattr(self, name)
            if name == "logit_scale" and value is None:
                continue
            if type(value) not in (int, float) or not math.isfinite(value):
                raise ValueError(f"the text tower has {name} {value!r:.80}, expected a number")
