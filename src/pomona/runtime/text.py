"""Text tower of an encoder -> vectors of texts, on OpenVINO's CPU plugin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.errors import EncoderError, UsageError
from pomona.extras import check_extra
from pomona.messages import one_line
from pomona.runtime.openvino import compiled_on_cpu, import_openvino
from pomona.runtime.parity import TOLERANCE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.encoder.encoder import Encoder
    from pomona.encoder.text import TextTower

__all__ = ["PROBE_TEXTS", "TextRuntime", "load_text", "open_tokenizer", "text_vectors"]

PROBE_TEXTS = ("a photo of a cat", "This is a picture of two red apples, 3 pears & a dog!", "")
"""Their vectors are stored in the encoder, and computed again when the tower is loaded."""

_loaded: dict[str, TextRuntime] = {}


def text_vectors(encoder: Encoder, texts: Sequence[str]) -> NDArray[np.float32]:
    """Compute the vectors of texts: (N, D) float32. The tower is loaded once per process.

    Raises:
        EncoderError: the encoder has no text tower, or it cannot be loaded here, or has other
            vectors than where it was built.
    """
    if encoder.text is None:
        raise EncoderError(
            f"encoder {encoder.fingerprint[:12]} ({encoder.model}) is for images only: build one "
            "with a text tower, from a folder of CLIP or SigLIP that has its text graph or its "
            "weights, and tokenizer.json"
        )
    key = encoder.fingerprint + encoder.text.digest
    if key not in _loaded:
        _loaded[key] = load_text(encoder.text, encoder.dimension)
    return _loaded[key].vectors(texts)


def load_text(tower: TextTower, dimension: int) -> TextRuntime:
    """Load a text tower, and compare the vectors of its probes with those that it contains.

    Raises:
        EncoderError: it cannot be loaded here, or has other vectors than where it was built.
    """
    runtime = TextRuntime(tower, dimension)
    expected = np.frombuffer(tower.probes, "<f4").reshape(-1, dimension)
    found = runtime.vectors(PROBE_TEXTS[: len(expected)])
    scale = float(np.abs(expected).max(initial=0)) or 1.0
    difference = float(np.abs(found - expected).max(initial=0)) / scale
    if not (len(expected) == len(PROBE_TEXTS) and difference <= TOLERANCE["f32"]):
        raise EncoderError(
            f"the encoder's text tower has other vectors here than where it was built: a probe's "
            f"vector differs by {difference:.2g} of the largest number (limit "
            f"{TOLERANCE['f32']:g}); likely causes: another version of openvino or tokenizers: "
            "use the version that built the encoder, or build it again here"
        )
    return runtime


class TextRuntime:
    """A compiled text tower, for one process and one thread."""

    def __init__(self, tower: TextTower, dimension: int) -> None:
        self.dimension = dimension
        self._tower = tower
        self._tokenizer = open_tokenizer(tower.tokenizer, "the encoder's tokenizer")
        try:
            compiled = compiled_on_cpu(tower.graph, tower.constants)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise EncoderError(f"OpenVINO cannot load the text tower: {reason}") from error
        shapes = [tuple(port.get_partial_shape().to_shape()) for port in compiled.inputs]
        output = tuple(compiled.output().get_partial_shape().to_shape())
        if shapes != [(1, tower.context)] or output != (1, dimension):
            raise EncoderError(
                f"the text tower is a graph from {shapes} to {output}, expected one from "
                f"{(1, tower.context)} to {(1, dimension)}: build the encoder again"
            )
        self._request = compiled.create_infer_request()

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Compute the vectors of texts: (N, D) float32."""
        openvino = import_openvino()
        found = np.empty((len(texts), self.dimension), np.float32)
        for row, tokens in enumerate(self.tokens(texts)):
            self._request.infer([openvino.Tensor(np.array([tokens], np.int64))])
            found[row] = self._request.get_output_tensor().data.reshape(-1)
        return found

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the numbers of the tokens of texts, with padding.

        Raises:
            UsageError: a text is not valid Unicode.
            EncoderError: the tokenizer does not fit the graph.
        """
        found = []
        for text in texts:
            try:
                tokens = self._tokenizer.encode(self._tower.cleaned(text)).ids
            except TypeError as error:  # half of a pair of surrogates
                raise UsageError(f"the text {text!r:.80} is not valid Unicode") from error
            found.append(tokens)
            if len(tokens) != self._tower.context:
                raise EncoderError(
                    f"the tokenizer returns {len(tokens)} tokens, expected {self._tower.context}: "
                    "build the encoder again"
                )
        return found


def open_tokenizer(content: bytes, name: str) -> Any:
    """Return the `tokenizers.Tokenizer` in a `tokenizer.json`.

    Raises:
        EncoderError: the extra `text` is not installed, or the file is not a tokenizer.
    """
    check_extra("text", "text towers need tokenizers", "tokenizers", error=EncoderError)
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_buffer(content)
    except Exception as error:  # tokenizers raises no other class
        raise EncoderError(f"{name} cannot be read: {one_line(error)}") from error
