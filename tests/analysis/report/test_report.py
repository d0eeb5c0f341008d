"""The report: its findings, its self-contained safe page, and its behaviour in a browser."""

from __future__ import annotations

import html.parser
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import browser
import drawn
import tables
from command_line import run
from pomona.analysis.classifier.wilson import wilson
from pomona.analysis.neighbours.duplicates import Group, Member
from pomona.analysis.neighbours.exact import find_neighbours
from pomona.analysis.neighbours.mislabels import Mislabel, find_mislabels
from pomona.analysis.report.findings import Failure, Findings, ReportOptions, collect
from pomona.analysis.report.label_quality import ClassSeparation, score_classes
from pomona.analysis.report.map_layout import place_rows
from pomona.analysis.report.pictures import Pictures
from pomona.analysis.report.render import render, write_report
from pomona.analysis.vectors import unit
from pomona.errors import TableError, UsageError
from pomona.table.feature_table import FeatureTable

RANDOM = np.random.default_rng(2)
PCA = ReportOptions(map="pca")
HOSTILE = "<script>alert('x')</script>"
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def clustered(rows: int, classes: int) -> np.ndarray:
    centres = np.random.default_rng(9).normal(size=(classes, 12)) * 4
    return centres[np.arange(rows) % classes] + RANDOM.normal(scale=0.5, size=(rows, 12))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 drawn pictures in 3 classes, one of them hostile; a wrong label, a copy, 2 failures."""
    root = tmp_path_factory.mktemp("report")
    labels: list[str | None] = [("Kiwi", "Pêche", HOSTILE)[i % 3] for i in range(60)]
    vectors = clustered(60, 3)
    labels[7] = "Kiwi"  # it lies among the peaches
    labels[8] = None
    vectors[13] = vectors[10] * 1.001
    paths = []
    for i in range(60):
        file = root / "pictures" / f"{i} <b>&\"'.jpg"
        file.parent.mkdir(exist_ok=True)
        if i != 20:  # deleted since the table was made
            file.write_bytes(drawn.encode(drawn.picture(60, 40, i), "JPEG"))
        paths.append(f"file:{file}")
    failed = [("file:/x/Kiwi/<i>.jpg", "empty"), ("file:/x/Kiwi/half.jpg", "truncated")]
    return tables.write(root / "a <table>", vectors, labels, paths, failed=failed)


@pytest.fixture(scope="module")
def findings(folder: Path) -> Findings:
    return collect("t", FeatureTable(folder), PCA)


# Findings ----------------------------------------------------------------------------------------


def test_only_the_wrong_label_is_suspected(findings: Findings) -> None:
    (suspect,) = findings.suspects
    assert (suspect.row, suspect.other) == (7, "Pêche")
    assert suspect.other_similarity > suspect.own_similarity


def test_separability_is_the_share_of_rows_whose_nearest_has_the_same_label(
    findings: Findings,
) -> None:
    scores = {score.label: score for score in findings.scores}
    assert scores[HOSTILE].right == scores[HOSTILE].rows == 19  # one has no label
    kiwi = scores["Kiwi"]
    assert (kiwi.rows, kiwi.right, kiwi.confused_with, kiwi.confused) == (21, 20, "Pêche", 1)
    asked = sum(score.rows for score in findings.scores)
    assert asked == 59
    assert findings.accuracy == sum(score.right for score in findings.scores) / asked


def test_rows_without_a_label_are_neither_queries_nor_neighbours() -> None:
    vectors = unit(np.array([[1, 0], [1, 0.01], [1, 0.1], [0, 1]], np.float32))
    near = find_neighbours(vectors, 3)
    (a, b) = sorted(score_classes(["a", None, "a", "b"], near), key=lambda score: score.label)
    assert (a.rows, a.right, b.rows, b.right) == (2, 2, 1, 0)
    assert find_mislabels(vectors, [None] * 4) == []


def test_near_images_are_in_one_group(findings: Findings) -> None:
    assert any({10, 13} <= set(group) for group in findings.near)


def test_the_interval_is_wilsons() -> None:
    # From the table of Brown, Cai and DasGupta (2001): 10 of 10 begins at 0.722.
    assert wilson(10, 10) == pytest.approx((0.7225, 1), abs=1e-4)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)


def test_counts_cover_the_whole_table_and_failures_have_reasons(findings: Findings) -> None:
    assert (findings.rows, findings.statuses["ok"]) == (62, 60)
    assert findings.failed_labels == {"Kiwi": 2}
    assert [failure.error for failure in findings.failures] == [
        "drawn as empty",
        "drawn as truncated",
    ]


def test_a_large_table_is_sampled_evenly(folder: Path) -> None:
    few = collect("t", FeatureTable(folder), ReportOptions(points=5, compared=20, map="pca"))
    assert (len(few.sample.paths), len(few.mapped), few.rows) == (20, 5, 62)


@settings(max_examples=25)
@given(st.integers(1, 12), st.integers(1, 5), st.booleans())
def test_any_number_of_rows_gets_a_layout(rows: int, dimension: int, same: bool) -> None:
    vectors = np.ones((rows, dimension)) if same else RANDOM.normal(size=(rows, dimension))
    places = place_rows(vectors.astype(np.float32), "pca")
    assert places.shape == (rows, 2)
    assert ((places >= -1e-6) & (places <= 1 + 1e-6)).all()


def test_t_sne_keeps_classes_together_and_is_deterministic() -> None:
    pytest.importorskip("sklearn", reason="t-SNE needs pip install '.[analysis]'")
    vectors = unit(clustered(60, 3).astype(np.float32))
    places = place_rows(vectors, "tsne")
    nearest = find_neighbours(unit(np.column_stack([places - places.mean(0)])), 1).rows[:, 0]
    assert np.mean(nearest % 3 == np.arange(60) % 3) > 0.9
    np.testing.assert_array_equal(place_rows(vectors, "tsne"), places)


def test_a_table_without_vectors_is_refused(tmp_path: Path) -> None:
    folder = tables.write(tmp_path / "t", np.empty((0, 3)), [], failed=[("file:/x/a.jpg", "empty")])
    with pytest.raises(TableError, match="no row with a vector"):
        write_report(FeatureTable(folder), tmp_path / "r.html", PCA)
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize("labels", [[None], ["a"], ["a", "a"], [None, "a", None]])
def test_small_tables_and_tables_without_labels_have_a_report(
    tmp_path: Path, labels: list[str | None]
) -> None:
    vectors = RANDOM.normal(size=(len(labels), 4))
    folder = tables.write(tmp_path / "t", vectors, labels)
    write_report(FeatureTable(folder), tmp_path / "r.html", ReportOptions())
    assert (tmp_path / "r.html").read_text().rstrip().endswith("</html>")


@pytest.mark.parametrize(("rows", "method"), [(7, "(PCA)"), (8, "t-SNE")])
def test_the_page_names_the_method_of_its_map(tmp_path: Path, rows: int, method: str) -> None:
    pytest.importorskip("sklearn", reason="t-SNE needs pip install '.[analysis]'")
    folder = tables.write(tmp_path / "t", clustered(rows, 2), ["a"] * rows)
    write_report(FeatureTable(folder), tmp_path / "r.html", ReportOptions(map="tsne"))
    caption = (tmp_path / "r.html").read_text().partition('id="map-said"')[2].partition("</p>")[0]
    assert method in caption
    assert ("t-SNE" in caption) != ("PCA" in caption)


# The page ----------------------------------------------------------------------------------------


class Read(html.parser.HTMLParser):
    """Tags, attributes and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.data = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "img", "input"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] and self.tags[-1][0] == "script" and "id" in self.tags[-1][1]:
            self.data += data if self.open[-1] == "script" else ""
        if self.open and self.open[-1] not in {"script", "style"}:
            self.text += data


@pytest.fixture(scope="module")
def page(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "report.html"
    write_report(FeatureTable(folder), file, PCA)
    return file


def test_labels_and_paths_are_displayed_as_text(page: Path) -> None:
    read = Read(page.read_text())
    assert read.open == []
    assert HOSTILE in read.text
    assert "file:/x/Kiwi/<i>.jpg" in read.text
    assert [tag for tag, _ in read.tags].count("script") == 2  # data, and the page's own
    assert {"i", "b"} & {
        tag for tag, attributes in read.tags if "<" in str(attributes.get("class"))
    } == set()


def test_the_page_requests_nothing_from_outside(page: Path) -> None:
    read = Read(page.read_text())
    targets = [
        value
        for _, attributes in read.tags
        for name, value in attributes.items()
        if name in {"src", "href", "action", "data", "poster", "srcset"}
    ]
    assert all(value and value.startswith(("#", "data:image/webp")) for value in targets)
    assert not re.search(r"url\(|@import", page.read_text())


def test_every_image_has_a_text_and_every_link_a_target(page: Path) -> None:
    read = Read(page.read_text())
    assert all(attrs.get("alt") for tag, attrs in read.tags if tag == "img")
    names = {attrs.get("id") for _, attrs in read.tags}
    assert all(attrs["href"][1:] in names for tag, attrs in read.tags if tag == "a")  # type: ignore[index]


def test_a_deleted_image_is_reported_as_missing(page: Path) -> None:
    assert "1 file can no longer be read: it has no picture here" in Read(page.read_text()).text


def with_text(findings: Findings, text: str) -> Findings:
    """The same findings with a text in place of each name, label, path, reason and key."""
    groups = [
        Group(g.kind, tuple(Member(text, text, m.similarity) for m in g.members))
        for g in [*findings.exact, Group("exact", (Member("", None, 1), Member("", "", 1)))]
    ]
    return replace(
        findings,
        name=text,
        provenance=findings.provenance | {"model": text, "weights": text, text: text},
        labels=Counter({text: 60, None: 2}),
        failures=[Failure(text, text, text)] * 2,
        statuses=Counter({"ok": 60, f"{text}.": 2}),
        sample=replace(findings.sample, paths=[text] * 60, labels=[text] * 60),
        scores=[ClassSeparation(text, 60, 30, text, 7)],
        suspects=[Mislabel(7, text, 0.1, 0.9)],
        exact=groups,
    )


def tags(page: str) -> list[tuple[str, list[str]]]:
    return [(tag, sorted(attributes)) for tag, attributes in Read(page).tags]


@pytest.mark.parametrize(
    "text",
    [
        HOSTILE,
        "</script></style><!--",
        "\"'><img src=x onerror=alert(1)>",
        "{{ 7 * 7 }} {% raw %} {# a #}",
        "&lt;b&gt; &amp;",
        "javascript:alert(1)",
    ],
)
def test_no_name_label_or_path_becomes_markup(findings: Findings, text: str) -> None:
    page = render(with_text(findings, text), Pictures(), NOW)
    assert tags(page) == tags(render(with_text(findings, "plain"), Pictures(), NOW))
    read = Read(page)
    assert read.text.count(text) >= 20
    titles = [
        attributes["title"]
        for tag, attributes in read.tags
        if tag == "span" and "title" in attributes
    ]
    assert titles
    assert set(titles) == {text}
    assert json.loads(read.data)["labels"] == [text]


@settings(max_examples=25, deadline=None)
@given(st.text(min_size=1).filter(str.strip))
def test_any_text_stays_text(findings: Findings, text: str) -> None:
    page = render(with_text(findings, text), Pictures(), NOW)
    assert tags(page) == tags(render(with_text(findings, "plain"), Pictures(), NOW))
    page.encode()  # no surrogates
    assert not re.search("[\0-\x08\x0b-\x1f]", page)


def test_the_page_of_a_large_table_is_below_30_mb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pomona.analysis.report.render._PICTURE_BYTES", 3_060_000)
    picture = tmp_path / "noise.png"
    picture.write_bytes(drawn.encode(drawn.picture(96, 96), "PNG"))
    links = []
    for i in range(400):
        link = tmp_path / f"{i}.png"
        link.symlink_to(picture)
        links.append(f"file:{link}")
    folder = tables.write(tmp_path / "t", clustered(400, 4), ["x"] * 400, links)
    _, pictures = write_report(FeatureTable(folder), tmp_path / "r.html", PCA)
    assert 0 < sum(map(len, pictures.found.values())) <= 60_000
    assert len(pictures.left_out) + len(pictures.found) == 400
    assert "pictures did not fit into the page" in (tmp_path / "r.html").read_text()


def test_a_missing_image_has_no_address() -> None:
    assert Pictures().uri("file:/x.jpg") is None


# The command -------------------------------------------------------------------------------------


def test_the_command_prints_the_path_of_the_page_and_the_duration(
    capfd: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "r.html"
    code, out, err = run(capfd, "report", folder, "-o", file, "--map", "pca")
    assert (code, err) == (0, "")
    assert re.match(rf"{re.escape(str(file))}: 62 rows, \d\.\d MB, in \d+\.\d s\n", out)
    assert "1 picture could not be read" in out


def test_json_contains_the_findings(
    capfd: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "r.html"
    _, out, _ = run(capfd, "report", folder, "-o", file, "--map", "pca", "--json")
    result = json.loads(out)
    assert result["bytes"] == file.stat().st_size
    assert (result["rows"], result["suspected_mislabels"], result["pictures_missing"]) == (62, 1, 1)
    assert set(result["seconds"]) == {
        "reading the table", "comparing the images", "drawing the map", "reading pictures",
    }  # fmt: skip


@pytest.mark.parametrize("where", ["", "no/such/r.html"])
def test_an_unwritable_page_is_refused_first(
    capfd: pytest.CaptureFixture[str], folder: Path, tmp_path: Path, where: str
) -> None:
    code, out, err = run(capfd, "report", folder, "-o", tmp_path / where)
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_a_threshold_that_is_no_similarity_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="expected a similarity"):
        collect("t", FeatureTable(folder), ReportOptions(threshold=2))


# In a browser ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser_page(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page]:
    if browser.CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with browser.chromium(tmp_path_factory.mktemp("profile")) as opened:
        opened.open(page)
        yield opened


def stage(browser_page: browser.Page) -> list[float]:
    """Left, top, width and height of the map."""
    box: list[float] = browser_page.value(
        "(() => { scrollTo({top: 0, behavior: 'instant'});"
        " const b = canvas.getBoundingClientRect();"
        " return [b.x, b.y, b.width, b.height] })()"
    )
    return box


def test_the_page_loads_without_errors_and_hovering_shows_the_image(
    browser_page: browser.Page,
) -> None:
    left, top, width, height = stage(browser_page)
    for x, y in ((x, y) for y in range(4, int(height), 12) for x in range(4, int(width), 12)):
        browser_page.mouse("mouseMoved", left + x, min(top + y, 895))
        if not browser_page.value("tip.hidden"):
            break
    assert browser_page.value("tip.querySelector('img, .none') !== null")
    assert (
        browser_page.value("tip.textContent")
        .removeprefix("no picture")
        .startswith(("Kiwi", "Pêche", HOSTILE, "(no label)"))
    )
    assert browser_page.complaints == []
    assert all(request.startswith(("file:", "data:")) for request in browser_page.requests)


def test_the_map_has_keyboard_navigation_and_announcements(browser_page: browser.Page) -> None:
    browser_page.value("canvas.focus({preventScroll: true})")
    browser_page.key("ArrowRight")
    first = browser_page.value("said.textContent")
    browser_page.key("ArrowLeft")
    assert first
    assert browser_page.value("said.textContent") != first
    browser_page.key("Enter")
    assert browser_page.value("document.getElementById('chosen-paths').value").startswith("file:/")
    browser_page.key("Escape")
    assert browser_page.value("chosen.hidden")
    assert browser_page.complaints == []


def test_the_lasso_selects_the_enclosed_points(browser_page: browser.Page) -> None:
    left, top, width, height = stage(browser_page)
    bottom = min(top + height, 895)
    browser_page.value("lasso.click()")
    # Not in its corners, which are round.
    near, far, up, down = left + 15, left + width - 15, top + 15, bottom - 15
    corners = [(near, up), (far, up), (far, down), (near, down)]
    browser_page.drag(corners)
    paths = browser_page.value("document.getElementById('chosen-paths').value").splitlines()
    assert 10 < len(paths) <= 60
    assert len(set(paths)) == len(paths)
    browser_page.value("lasso.click()")


def test_reset_leaves_nothing_of_the_earlier_view(browser_page: browser.Page) -> None:
    left, top, width, _ = stage(browser_page)
    browser_page.value("reset.click()")
    before = browser_page.value("canvas.toDataURL()")
    browser_page.drag([(left + width / 2, top + 200), (left + width - 40, top + 200)])
    browser_page.mouse("mouseMoved", 2, 2)
    assert browser_page.value("canvas.toDataURL()") != before
    browser_page.value("reset.click()")
    assert browser_page.value("canvas.toDataURL()") == before


def test_the_wheel_scrolls_past_the_map_also_after_a_click(browser_page: browser.Page) -> None:
    left, top, width, _ = stage(browser_page)
    browser_page.value("canvas.focus({preventScroll: true})")
    browser_page.mouse("mouseWheel", left + width / 2, top + 200, deltaX=0, deltaY=300)
    browser_page.wait_for("scrollY > 200")


def test_a_tapped_image_stays_and_a_finger_scrolls_past_the_map(browser_page: browser.Page) -> None:
    left, top, width, height = stage(browser_page)
    browser_page.value("reset.click()")
    for x, y in ((x, y) for y in range(20, int(height), 40) for x in range(20, int(width), 40)):
        browser_page.touch([(left + x, min(top + y, 890))])
        if not browser_page.value("tip.hidden"):
            break
    assert not browser_page.value("tip.hidden")
    browser_page.touch([(left + 200, top + 300 - step) for step in range(0, 250, 10)])
    browser_page.wait_for("scrollY > 50")
    assert browser_page.complaints == []


def test_print_shows_whole_tables_on_white_paper(browser_page: browser.Page) -> None:
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser_page.ask("Emulation.setEmulatedMedia", media="print", features=dark)
    paper = browser_page.value("getComputedStyle(document.body).backgroundColor")
    cut = "(e) => getComputedStyle(e).overflowX != 'visible'"
    assert not browser_page.value(f"[...document.querySelectorAll('.scroll')].some({cut})")
    browser_page.ask("Emulation.setEmulatedMedia", media="", features=[])
    assert browser_page.value("getComputedStyle(document.body).backgroundColor") == paper


def test_a_button_hides_its_class(browser_page: browser.Page) -> None:
    browser_page.value("document.querySelector('#legend button').click()")
    pressed = "document.querySelector('#legend button').getAttribute('aria-pressed')"
    assert browser_page.value(pressed) == "false"
    browser_page.value("document.querySelector('#legend button').click()")
    assert browser_page.value(pressed) == "true"


def test_dark_mode_is_dark_and_a_narrow_page_does_not_scroll_sideways(
    browser_page: browser.Page, page: Path
) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    light = browser_page.value(paper)
    browser_page.scheme("dark")
    assert browser_page.value(paper) != light
    browser_page.open(page, width=380)
    assert browser_page.value("document.documentElement.scrollWidth <= innerWidth")
    # A word of a class's name is not broken into pieces.
    name = "document.querySelector('#classes tbody th')"
    assert browser_page.value(f"{name}.clientWidth >= 100 && {name}.clientHeight < 200")
    assert browser_page.complaints == []
