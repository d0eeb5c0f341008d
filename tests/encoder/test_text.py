"""The values of a text tower, and how it is checked where it is loaded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pomona
from pomona.encoder.encoder import Encoder
from pomona.errors import EncoderError, UsageError
from pomona.runtime.text import TextRuntime, load_text
from text_towers import NAMES, encoder_in


@pytest.mark.parametrize("name", NAMES)
@given(text=st.text(max_size=200))
def test_any_text_has_a_finite_vector(name: str, text: str) -> None:
    vector = pomona.embed_text(text, encoder_in(name))
    assert vector.shape == (1, encoder_in(name).dimension)
    assert np.isfinite(vector).all()


def test_a_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(UsageError, match="not valid Unicode"):
        pomona.embed_text("\udcff", encoder_in("clip"))


@pytest.mark.parametrize("texts", [[1], [None], [b"a"]])
def test_what_is_not_text_is_refused(texts: list[object]) -> None:
    with pytest.raises(UsageError, match=r"texts\[0\] is .*, expected text"):
        pomona.embed_text(texts, encoder_in("clip"))  # type: ignore[arg-type]


def test_no_texts_have_no_vectors() -> None:
    assert pomona.embed_text([], encoder_in("clip")).shape == (0, 20)


def test_an_encoder_for_images_only_says_what_is_missing() -> None:
    with pytest.raises(EncoderError, match="is for images only: build one with a text tower"):
        pomona.embed_text("a", encoder_in("clip").for_images())


def test_other_vectors_than_where_it_was_built_are_refused() -> None:
    tower = encoder_in("clip").text
    assert tower is not None
    probes = np.frombuffer(tower.probes, "<f4") * np.float32(1.01)
    with pytest.raises(EncoderError, match="other vectors here than where it was built"):
        load_text(replace(tower, probes=probes.tobytes()), 20)
    with pytest.raises(EncoderError, match="other vectors here"):
        load_text(replace(tower, probes=b""), 20)


def test_a_graph_that_does_not_fit_its_tower_is_refused() -> None:
    tower = encoder_in("clip").text
    assert tower is not None
    with pytest.raises(EncoderError, match="expected one from"):
        TextRuntime(replace(tower, context=17), 20)
    with pytest.raises(EncoderError, match="expected one from"):
        TextRuntime(tower, 21)
    with pytest.raises(EncoderError, match="cannot load the text tower"):
        TextRuntime(replace(tower, graph=b"<net/>"), 20)


@pytest.mark.parametrize(
    "values",
    [
        {"context": 0},
        {"context": True},
        {"cleaning": "lowercase"},
        {"probability": "none"},
        {"logit_scale": float("nan")},
        {"logit_scale": "100"},
        {"logit_bias": None},
        {"probes": b"123"},
    ],
)
def test_a_file_with_a_value_that_cannot_be_is_refused(values: dict[str, object]) -> None:
    made = encoder_in("clip")
    assert made.text is not None
    changed = replace(made, text=replace(made.text, **values))  # type: ignore[arg-type]
    with pytest.raises(EncoderError, match="header that cannot be read"):
        Encoder.from_bytes(changed.to_bytes())
