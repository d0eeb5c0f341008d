"""The tokenizer of a text tower: checked against its graph, with padding and truncation."""

from __future__ import annotations

from typing import Any

from pomona.building.folders.text_model import REMEDY, TextModel
from pomona.errors import EncoderError
from pomona.runtime.text import open_tokenizer

__all__ = ["prepared_tokenizer"]

_LARGEST = 2**28  # bytes: that of SigLIP 2 has 34 million
_SPARE_ROWS = 128  # the table of tokens may be filled up to a multiple of this


def prepared_tokenizer(model: TextModel, rows: int | None) -> Any:
    """Return the tokenizer of a model, which makes `context` tokens of each text.

    Args:
        model: the model.
        rows: number of tokens that its graph knows; None if the graph does not show it.

    Returns:
        A `tokenizers.Tokenizer`.

    Raises:
        EncoderError: the file is damaged, or is the tokenizer of another model.
    """
    file = model.tokenizer
    if file.stat().st_size > _LARGEST:
        raise EncoderError(f"{file} is larger than {_LARGEST} bytes: not a tokenizer")
    tokenizer = open_tokenizer(file.read_bytes(), str(file))
    count = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if rows is not None and not count <= rows < count + _SPARE_ROWS:
        raise EncoderError(
            f"{file} is the tokenizer of another model: it has {count:,} tokens, and the text "
            f"graph {rows:,}; {REMEDY}"
        )
    tokenizer.no_padding()
    last = tokenizer.encode("a").tokens[-1:]
    if model.end is not None and last != [model.end]:
        raise EncoderError(
            f"{file} is the tokenizer of another model: it ends texts with {last}, and "
            f"tokenizer_config.json with {model.end}; {REMEDY}"
        )
    pad = 0 if model.pad is None else tokenizer.token_to_id(model.pad)
    if pad is None:
        raise EncoderError(
            f"{file} is the tokenizer of another model: it has no {model.pad}, the pad_token in "
            f"tokenizer_config.json; {REMEDY}"
        )
    tokenizer.enable_truncation(model.context)
    tokenizer.enable_padding(
        direction="left" if model.pad_left else "right",
        pad_id=pad,
        pad_token=tokenizer.id_to_token(pad),
        length=model.context,
    )
    return tokenizer
