"""How the model in a folder takes texts, as its JSON files say."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pomona.building.file_digest import TOKENIZERS, first_file
from pomona.building.folders.reading import inside, read_json
from pomona.errors import EncoderError
from pomona.extras import install_command, is_installed

__all__ = ["REMEDY", "TextModel", "text_model"]

_log = logging.getLogger(__name__)

REMEDY = (
    "copy the tokenizer files from where the model was published, or remove tokenizer.json to "
    "build an encoder for images only"
)
_LONGEST = 2**12  # tokens

# Number of tokens, and the cleaning before the tokenizer, by its class in transformers. Published
# SigLIP 2 has the tokenizer of Gemma; its authors trained it on lower case (`Siglip2Tokenizer`).
_CONTEXTS = {"clip": 77, "siglip": 64}
_CLEANINGS = {
    "clip": {"CLIPTokenizer": "none"},
    "siglip": {
        "SiglipTokenizer": "canonical",
        "GemmaTokenizer": "lower",
        "Siglip2Tokenizer": "lower",
    },
}
_OUTPUTS = {"clip": ("text_embeds",), "siglip": ("text_embeds", "pooler_output")}

# `clean` in the configurations of open_clip, whose default for tokenizers in files is whitespace.
_OPEN_CLIP_CLEANINGS = {"whitespace": "none", "lower": "lower", "canonicalize": "canonical"}


@dataclass(frozen=True, slots=True)
class TextModel:
    """How a model takes texts.

    Attributes:
        outputs: names of the vector in its graph, the best first; empty for the only output.
        probability: how scores become probabilities.
        context: number of tokens of each text.
        cleaning: what its authors do before the tokenizer.
        tokenizer: the file `tokenizer.json`.
        pad: the token that fills short texts; None for the first token, 0.
        pad_left: whether it comes before the text.
        end: the last token of each text; None if not known.
    """

    outputs: tuple[str, ...]
    probability: str
    context: int
    cleaning: str
    tokenizer: Path
    pad: str | None
    pad_left: bool
    end: str | None


def text_model(folder: Path, open_clip: Mapping[str, Any] | None = None) -> TextModel | None:
    """Return how the model in a folder takes texts; None to use it for images only.

    Args:
        folder: the folder.
        open_clip: the `model_cfg` of a folder of OpenCLIP.

    Raises:
        EncoderError: the tokenizer is that of another model, or a file is damaged.
    """
    config = read_json(folder, "config.json") if open_clip is None else open_clip
    kind = config.get("model_type")
    is_open_clip = open_clip is not None or (folder / "textual").is_dir()
    if not is_open_clip and kind not in _CONTEXTS:
        return None
    tokenizer = first_file(folder, TOKENIZERS)
    if tokenizer is None:
        _for_images_only(folder, "it has no tokenizer.json")
        return None
    inside(folder, str(tokenizer.relative_to(folder)))
    file = tokenizer.with_name("tokenizer_config.json")
    about = read_json(folder, str(file.relative_to(folder)))
    if not about:
        _for_images_only(folder, "it has no tokenizer_config.json")
        return None
    if not is_installed("tokenizers"):
        _for_images_only(folder, f"it needs tokenizers: {install_command('text')}")
        return None
    name = str(about.get("tokenizer_class", "")).removesuffix("Fast")
    if is_open_clip:
        facts = _open_clip(config, folder)
    else:
        facts = _hugging_face(str(kind), name, config, folder)
        if not about.get("do_lower_case", True):
            raise EncoderError(f"{file} has do_lower_case false, expected true: {REMEDY}")
    pad = _token(about, "pad_token")
    if is_open_clip and name == "CLIPTokenizer" and _has_own_tokenizer(config):
        pad = None  # whatever tokenizer_config.json says, and MobileCLIP attends to it
    elif pad is None:
        raise EncoderError(f"{file} has no pad_token, which fills short texts: {REMEDY}")
    side = about.get("padding_side", "left" if name == "Siglip2Tokenizer" else "right")
    end = _token(about, "eos_token")
    return TextModel(tokenizer=tokenizer, pad=pad, pad_left=side == "left", end=end, **facts)


def _hugging_face(
    kind: str, tokenizer: str, config: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    if tokenizer not in _CLEANINGS[kind]:
        raise EncoderError(
            f"{folder} has {tokenizer or 'a tokenizer without class'} in tokenizer_config.json, "
            f"expected {' or '.join(_CLEANINGS[kind])} for {kind}: {REMEDY}"
        )
    return {
        "outputs": _OUTPUTS[kind],
        "probability": "softmax" if kind == "clip" else "sigmoid",
        "context": _context(config, "text_config", "max_position_embeddings", _CONTEXTS[kind]),
        "cleaning": _CLEANINGS[kind][tokenizer],
    }


def _open_clip(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the facts of a configuration of open_clip."""
    text = config.get("text_cfg")
    options = (text.get("tokenizer_kwargs") if isinstance(text, dict) else None) or {}
    clean = options.get("clean", "whitespace") if isinstance(options, dict) else "?"
    if clean not in _OPEN_CLIP_CLEANINGS:
        raise EncoderError(
            f"{folder} cleans texts by {clean!r:.40}, expected one of "
            f"{', '.join(_OPEN_CLIP_CLEANINGS)}: {REMEDY}"
        )
    if unknown := sorted(set(options) - {"clean"}):
        raise EncoderError(
            f"{folder} has the tokenizer_kwargs {unknown[0]!r:.40}, which change texts and which "
            f"Pomona does not know: {REMEDY}"
        )
    return {
        "outputs": (),
        "probability": "sigmoid" if config.get("init_logit_bias") is not None else "softmax",
        "context": _context(config, "text_cfg", "context_length", 77),
        "cleaning": _OPEN_CLIP_CLEANINGS[clean],
    }


def _has_own_tokenizer(config: Mapping[str, Any]) -> bool:
    """Return whether open_clip reads texts with its own tokenizer, which fills short ones with 0.

    It is that of CLIP, and so are its files. Networks without a causal mask attend to the filling.
    """
    text = config.get("text_cfg")
    return not (isinstance(text, dict) and text.get("hf_tokenizer_name"))


def _context(config: Mapping[str, Any], part: str, key: str, default: int) -> int:
    values = config.get(part)
    count = values.get(key, default) if isinstance(values, dict) else default
    if type(count) is not int or not 1 < count <= _LONGEST:
        raise EncoderError(
            f"config.json has {part}.{key} {count!r:.40}, expected a number of tokens: {REMEDY}"
        )
    return count


def _token(about: Mapping[str, Any], key: str) -> str | None:
    """Return a special token, which is text or an object with `content`."""
    token = about.get(key)
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def _for_images_only(folder: Path, why: str) -> None:
    _log.info("%s: the encoder is for images only: for texts, %s", folder, why)
