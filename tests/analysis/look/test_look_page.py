"""The page of `pomona look` in a real browser."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import browser
import drawn
import pomona

if browser.CHROMIUM is None:
    pytest.skip("no Chromium on this machine", allow_module_level=True)
pytest.importorskip("tokenizers", reason="texts need pip install '.[text]'")

from text_towers import encoder_in


@pytest.fixture(scope="module")
def look(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pomona.Look]:
    """24 pictures in 2 classes and a broken one, with an encoder that reads texts."""
    root = tmp_path_factory.mktemp("look")
    for i in range(24):
        file = root / "photos" / ("Kiwi", "Pêche <b>")[i % 2] / f"{i}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(drawn.encode(drawn.picture(60, 40, i), "JPEG"))
    (root / "photos" / "Kiwi" / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    with pomona.look(
        root / "photos", root / "table", encoder=encoder_in("clip"), map="pca", browser=False
    ) as page:
        yield page


@pytest.fixture(scope="module")
def browsing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page]:
    with browser.chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def page(browsing: browser.Page, look: pomona.Look) -> Iterator[browser.Page]:
    """A newly opened page. Each test fails if the browser reports an error."""
    browsing.complaints.clear()
    browsing.open(look.url)
    browsing.wait_for("document.body.dataset.ready === 'true' && 'painted' in canvas.dataset")
    yield browsing
    assert browsing.complaints == []


def stage(page: browser.Page) -> list[float]:
    """Left, top, width and height of the map."""
    box: list[float] = page.value(
        "(() => { const b = canvas.getBoundingClientRect();"
        " return [b.x, b.y, b.width, b.height] })()"
    )
    return box


def select_all(page: browser.Page) -> None:
    left, top, width, height = stage(page)
    page.value("lasso.click()")
    right, bottom = left + width - 5, top + height - 5
    page.drag([(left + 5, top + 5), (right, top + 5), (right, bottom), (left + 5, bottom)])
    page.wait_for("document.querySelectorAll('#list-pictures button').length > 0")


def first_image(page: browser.Page) -> None:
    """Open the image that the keys reach first."""
    page.value("canvas.focus()")
    page.key("ArrowRight")
    page.key("Enter")
    page.wait_for("document.querySelectorAll('#near button').length > 0")


def test_the_map_shows_pictures_and_asks_this_machine_only(
    page: browser.Page, look: pomona.Look
) -> None:
    page.wait_for("performance.getEntriesByType('resource').some(e => e.name.includes('small?'))")
    assert all(url.startswith((look.url[:60], "data:", "blob:")) for url in page.requests)


def test_hovering_shows_the_image(page: browser.Page) -> None:
    left, top, width, height = stage(page)
    for x, y in ((x, y) for y in range(5, int(height), 25) for x in range(5, int(width), 25)):
        page.mouse("mouseMoved", left + x, top + y)
        if not page.value("tip.hidden"):
            break
    page.wait_for("tip.querySelector('span').textContent.endsWith('.jpg')")
    assert page.value("tip.querySelector('b').textContent") in {"Kiwi", "Pêche <b>"}


def test_a_tap_opens_the_image_with_its_nearest_and_its_path(page: browser.Page) -> None:
    left, top, width, height = stage(page)
    for x, y in ((x, y) for y in range(5, int(height), 40) for x in range(5, int(width), 40)):
        page.touch([(left + x, top + y)])
        if page.value("document.getElementById('path').textContent"):
            break
        time.sleep(0.01)
    page.wait_for("document.querySelectorAll('#near button').length === 12")
    path = page.value("document.getElementById('path').textContent")
    assert Path(path).is_file()
    page.wait_for("document.querySelector('#large img').naturalWidth === 60")
    page.value("document.querySelector('#near button').click()")
    page.wait_for(f"document.getElementById('path').textContent !== {path!r}")


def test_keys_reach_images_and_escape_clears(page: browser.Page) -> None:
    first_image(page)
    assert page.value("said.textContent.endsWith('.jpg')")
    page.key("Escape")
    assert page.value("image.hidden && list.hidden")


def test_the_lasso_selects_and_the_selection_is_saved(page: browser.Page, tmp_path: Path) -> None:
    select_all(page)
    title = "document.getElementById('list-title').textContent"
    assert page.value(title) == "Selected: 24 images"
    page.ask("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    for kind, lines in (("csv", 25), ("txt", 24)):
        page.value(f"document.getElementById('{kind}').click()")
        file, until = tmp_path / f"selection.{kind}", time.monotonic() + 60
        while not file.exists() and time.monotonic() < until:
            page.value("1")
            time.sleep(0.02)
        assert len(file.read_text().splitlines()) == lines


def test_words_find_images(page: browser.Page) -> None:
    page.key("/")
    assert page.value("document.activeElement.id") == "words"
    page.value("words.value = 'a red apple'")
    page.value("document.querySelector('#search button').click()")
    page.wait_for("document.querySelectorAll('#list-pictures button').length === 24")
    assert page.value("document.getElementById('list-title').textContent").startswith("a red apple")


def test_a_class_is_isolated_with_one_click(page: browser.Page) -> None:
    before = page.value("canvas.toDataURL()")
    boxes = "[...document.querySelectorAll('#class-rows input')].map((box) => box.checked)"
    page.value("document.querySelector('#class-rows button').click()")
    assert page.value(boxes) == [True, False]
    page.value("take.click()")
    page.wait_for("document.getElementById('list-title').textContent === 'Shown: 12 images'")
    assert page.value("canvas.toDataURL()") != before
    page.value("document.querySelector('#class-rows button').click()")
    assert page.value(boxes) == [True, True]


def test_files_without_a_vector_are_listed_with_their_reason(page: browser.Page) -> None:
    page.value("document.querySelector('#statuses button').click()")
    page.wait_for("document.querySelectorAll('#list-pictures button').length === 1")
    page.value("document.querySelector('#list-pictures button').click()")
    page.wait_for("document.getElementById('facts').textContent.length > 10")
    assert page.value("document.querySelector('#path').textContent").endswith("broken.jpg")
    page.wait_for("document.querySelector('#large .none') !== null")


def test_a_phone_shows_map_and_lists_one_below_the_other(
    page: browser.Page, look: pomona.Look
) -> None:
    page.open(look.url, width=390, height=800, scheme="dark")
    page.wait_for("document.body.dataset.ready === 'true'")
    assert page.value("document.documentElement.scrollWidth <= innerWidth")
    _, _, width, height = stage(page)
    assert width > 330
    assert 400 < height < 600
    assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(23, 22, 20)"
    first_image(page)
    assert page.value("image.getBoundingClientRect().top > 0 && !image.hidden")
