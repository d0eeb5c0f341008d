"""Search with words: images and texts in one space."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pomona
from command_line import run
from pomona.errors import EncoderError, UsageError
from text_towers import ANSWERS, FOLDERS, IMAGES, encoder_in, unit

TEXTS = ANSWERS["texts"][:3]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:  # noqa: ARG001
    folder = tmp_path_factory.mktemp("search")
    (folder / "photos").mkdir()
    for number, image in enumerate(IMAGES):
        image.save(folder / "photos" / f"{number}.png")
    pomona.extract(folder / "photos", folder / "features", encoder=FOLDERS / "clip")
    return folder / "features"


def test_similarities_are_the_cosines_of_transformers_vectors(table: Path) -> None:
    answer = ANSWERS["clip"]
    expected = unit(answer["texts"][:3]) @ unit(answer["images"]).T
    for text, cosines, found in zip(TEXTS, expected, pomona.search(table, text=TEXTS), strict=True):
        assert (found.query.given, found.query.path, found.query.is_row) == (text, None, False)
        order = np.argsort(-cosines)
        assert [Path(match.path).name for match in found.matches] == [f"{n}.png" for n in order]
        assert np.abs(cosines[order] - [match.similarity for match in found.matches]).max() < 1e-5


def test_images_and_texts_can_be_mixed_and_repeated(table: Path) -> None:
    found = pomona.search(table, "photos/0.png", 1, text=[TEXTS[0], TEXTS[1], TEXTS[0]])
    assert [each.query.given for each in found] == ["photos/0.png", TEXTS[0], TEXTS[1]]


def test_an_index_answers_texts_too(table: Path, tmp_path: Path) -> None:
    exact = pomona.search(table, text=TEXTS)
    for one, other in zip(
        exact, pomona.search(table, text=TEXTS, index=tmp_path / "it.index"), strict=True
    ):
        assert [match.path for match in one.matches] == [match.path for match in other.matches]


def test_a_table_without_a_text_tower_says_what_is_missing(table: Path) -> None:
    with pytest.raises(EncoderError, match="is for images only: build one with a text tower"):
        pomona.search(table, text="a", encoder=encoder_in("clip").for_images())


def test_the_encoder_of_another_table_is_refused(table: Path) -> None:
    with pytest.raises(EncoderError, match="another encoder made the table"):
        pomona.search(table, text="a", encoder=encoder_in("siglip"))


def test_nothing_to_search_with_is_refused(table: Path) -> None:
    with pytest.raises(UsageError, match="nothing to search with"):
        pomona.search(table)


def test_the_command_searches_with_words(
    table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.png"
    words = ["--text", TEXTS[0], "--text", TEXTS[1]]
    code, out, _ = run(capfd, "search", table, *words, "-k", 2, "--sheet", sheet)
    assert code == 0
    assert TEXTS[0] in out.splitlines()
    assert "not in the table" not in out
    with Image.open(sheet) as drawn:
        corner = np.asarray(drawn.convert("L"))[16:116, 16:116]  # inside the first frame
    assert corner.min() < 128  # the words
    assert (corner == 255).mean() > 0.8
    _, out, _ = run(capfd, "search", table, *words, "--json")
    queries = json.loads(out)["results"]
    assert [(each["query"], each["path"]) for each in queries] == [(t, None) for t in TEXTS[:2]]


def test_the_command_without_anything_to_search_with_is_code_2(
    table: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capfd, "search", table)
    assert (code, out) == (2, "")
    assert "give an IMAGE or --text" in err
    assert err.count("\n") == 1
