"""The page of `pomona look`: places of rows, near rows, and what its server gives to whom."""

from __future__ import annotations

import csv
import http.client
import io
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

import drawn
import pomona
import tables
from command_line import run
from pomona.analysis.look.map_cache import open_places
from pomona.analysis.look.nearest import Nearest
from pomona.analysis.look.placing import place_table
from pomona.analysis.vectors import open_vectors
from pomona.errors import EncoderError, RunError, TableError, UsageError
from pomona.source.image_list import ImageList
from pomona.source.listing import Listing
from pomona.table.feature_table import FeatureTable

RANDOM = np.random.default_rng(4)


def clustered(rows: int, classes: int = 3, dimension: int = 12) -> np.ndarray:
    centres = np.random.default_rng(9).normal(size=(classes, dimension)) * 4
    return centres[np.arange(rows) % classes] + RANDOM.normal(scale=0.5, size=(rows, dimension))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 pictures in 3 classes, one of them deleted, and 2 files without a vector."""
    root = tmp_path_factory.mktemp("look")
    paths = []
    for i in range(30):
        file = root / "pictures" / f"{i}, a.jpg"
        file.parent.mkdir(exist_ok=True)
        if i != 20:
            file.write_bytes(drawn.encode(drawn.picture(300, 200, i), "JPEG"))
        paths.append(f"file:{file}")
    labels = [("Kiwi", "Pêche", None)[i % 3] for i in range(30)]
    failed = [("file:/x/Kiwi/a.jpg", "empty"), ("file:/x/Kiwi/b.jpg", "truncated")]
    return tables.write(root / "table", clustered(30), labels, paths, failed=failed)


# Places ------------------------------------------------------------------------------------------


def test_rows_outside_the_sample_lie_among_their_class(tmp_path: Path) -> None:
    table = tables.write(tmp_path / "t", clustered(300), ["x"] * 300)
    placed = place_table(open_vectors(FeatureTable(table)), "tsne", together=60)
    assert ((placed.places >= -1e-6) & (placed.places <= 1 + 1e-6)).all()
    centres = np.stack([placed.places[k::3].mean(axis=0) for k in range(3)])
    distances = np.linalg.norm(placed.places[:, None] - centres, axis=2)
    assert (distances.argmin(axis=1) == np.arange(300) % 3).mean() > 0.98


@pytest.mark.parametrize("rows", [1, 2, 9])
@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_few_rows_have_places(tmp_path: Path, rows: int, method: str) -> None:
    table = tables.write(tmp_path / "t", clustered(rows, dimension=1), [None] * rows)
    placed = place_table(open_vectors(FeatureTable(table)), method)
    assert placed.places.shape == (rows, 2)
    assert np.isfinite(placed.places).all()


def test_the_map_is_kept_until_the_table_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POMONA_CACHE", str(tmp_path / "cache"))
    table = tables.write(tmp_path / "t", clustered(20), ["x"] * 20)
    first = open_places(open_vectors(FeatureTable(table)), "pca")
    place = "pomona.analysis.look.map_cache.place_table"
    with monkeypatch.context() as without:
        without.setattr(place, None)
        again = open_places(open_vectors(FeatureTable(table)), "pca")
    np.testing.assert_array_equal(again.places, first.places)
    np.testing.assert_array_equal(again.codes, first.codes)
    tables.write(table, clustered(5), ["x"] * 5)
    assert len(open_places(open_vectors(FeatureTable(table)), "pca").places) == 25
    assert len(list((tmp_path / "cache" / "look").glob("*/*"))) == 1  # the earlier map is gone


def test_a_map_needs_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("POMONA_CACHE", str(tmp_path / "file"))
    table = tables.write(tmp_path / "t", clustered(20), ["x"] * 20)
    assert len(open_places(open_vectors(FeatureTable(table)), "pca").places) == 20


# Near rows ---------------------------------------------------------------------------------------


def test_near_rows_are_those_of_the_largest_centred_cosine(tmp_path: Path) -> None:
    vectors = clustered(50)
    table = tables.write(tmp_path / "t", vectors, ["x"] * 50)
    placed = place_table(open_vectors(FeatureTable(table)), "pca")
    found = Nearest(placed, None).to_row(7, 5)
    centred = vectors - vectors.sum(axis=0) / 53  # with three vectors of zeros
    cosines = (centred @ centred[7]) / np.linalg.norm(centred, axis=1) / np.linalg.norm(centred[7])
    expected = np.argsort(-cosines)[1:6]
    assert [row for row, _ in found] == expected.tolist()
    np.testing.assert_allclose([value for _, value in found], cosines[expected], atol=2e-3)


def test_a_single_row_has_no_near_rows(tmp_path: Path) -> None:
    table = tables.write(tmp_path / "t", clustered(1), ["x"])
    assert Nearest(place_table(open_vectors(FeatureTable(table)), "pca"), None).to_row(0, 5) == []


def test_a_text_finds_what_search_finds(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="texts need pip install '.[text]'")
    from text_towers import IMAGES, encoder_in

    for number, image in enumerate(IMAGES):
        image.save(tmp_path / f"{number}.png")
    workers = pomona.LocalEngine(workers=1)
    pomona.extract(tmp_path, tmp_path / "t", encoder=encoder_in("clip"), engine=workers)
    placed = place_table(open_vectors(FeatureTable(tmp_path / "t")), "pca")
    found = Nearest(placed, encoder_in("clip")).to_text("a red apple", 3)
    (searched,) = pomona.search(tmp_path / "t", k=3, text="a red apple", encoder=encoder_in("clip"))
    similarities = [match.similarity for match in searched.matches]
    np.testing.assert_allclose([value for _, value in found], similarities, atol=1e-3)
    paths = [path for b in FeatureTable(tmp_path / "t").batches() for path in b["path"].to_pylist()]
    assert [paths[row] for row, _ in found] == [match.path for match in searched.matches]


# The server --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(folder: Path) -> Iterator[pomona.Look]:
    with pomona.look(folder, map="pca", browser=False) as opened:
        yield opened


def ask(
    page: pomona.Look, address: str, body: bytes | None = None, **headers: str
) -> tuple[int, bytes]:
    """Ask for an address after the token; an absolute one as it is."""
    url = urlsplit(page.url)
    connection = http.client.HTTPConnection(url.netloc, timeout=60)
    path = address if address.startswith("/") else url.path + address
    connection.request("POST" if body is not None else "GET", path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


def test_the_server_listens_on_loopback_only(page: pomona.Look) -> None:
    assert urlsplit(page.url).hostname == "127.0.0.1"


@pytest.mark.parametrize("address", ["/", "/table.json", "/x/table.json", "//", "/../etc/passwd"])
def test_without_the_token_there_is_nothing(page: pomona.Look, address: str) -> None:
    assert ask(page, address) == (404, b"not found")


def test_a_page_that_points_its_name_here_gets_nothing(page: pomona.Look) -> None:
    assert ask(page, "table.json", Host="example.com")[0] == 404
    assert ask(page, "table.json")[0] == 200


@pytest.mark.parametrize(
    "address",
    [
        "small", "small?row=x", "small?row=-1", "large?row=32", "small?row=/etc/passwd", "rows",
        "rows?ids=1,99", "near?row=1", "near?row=31&k=3", "text?q=a&k=3", "near?row=1&k=x",
    ],
)  # fmt: skip
def test_a_request_that_is_not_the_pages_is_refused(page: pomona.Look, address: str) -> None:
    assert ask(page, address)[0] == 400


@pytest.mark.parametrize("address", ["passwd", "page/look.js", "..", "small/1", "%2e%2e/x"])
def test_no_other_address_has_a_file(page: pomona.Look, address: str) -> None:
    assert ask(page, address)[0] == 404


@pytest.mark.parametrize(("kind", "size"), [("small", (128, 85)), ("large", (300, 200))])
def test_pictures_are_drawn_from_the_files_of_rows(
    page: pomona.Look, kind: str, size: tuple[int, int]
) -> None:
    status, content = ask(page, f"{kind}?row=3")
    assert (status, Image.open(io.BytesIO(content)).size) == (200, size)
    assert ask(page, f"{kind}?row=20") == (204, b"")  # deleted


def test_a_selection_is_exported_as_csv_and_as_a_list_that_extract_takes(
    page: pomona.Look, folder: Path, tmp_path: Path
) -> None:
    rows = np.array([2, 4, 31], "<u4").tobytes()
    _, content = ask(page, "export?as=csv", rows)
    found = list(csv.DictReader(io.StringIO(content.decode())))
    assert [row["label"] for row in found] == ["", "Pêche", "Kiwi"]
    assert [row["status"] for row in found] == ["ok", "ok", "truncated"]
    _, lines = ask(page, "export?as=txt", rows[:8])
    paths = lines.decode().splitlines()
    assert paths == [str(folder.parent / "pictures" / f"{i}, a.jpg") for i in (2, 4)]
    for name, text in (("s.txt", lines), ("s.csv", ask(page, "export?as=csv", rows[:8])[1])):
        (tmp_path / name).write_bytes(text)
        listed = Listing.of(ImageList(str(tmp_path / name))).files()
        assert [file.path for file in listed] == paths


@pytest.mark.parametrize("rows", [b"\xff" * 4, b"123", b"\0" * 400])
def test_an_export_of_rows_that_do_not_exist_is_refused(page: pomona.Look, rows: bytes) -> None:
    assert ask(page, "export?as=csv", rows)[0] == 400


def test_paths_with_line_breaks_are_exported_as_csv_only(tmp_path: Path) -> None:
    paths = [f"file:/x/{i}\n.jpg" for i in range(3)]
    folder = tables.write(tmp_path / "t", clustered(3), ["x"] * 3, paths)
    with pomona.look(folder, map="pca", browser=False) as page:
        status, content = ask(page, "export?as=txt", b"\0" * 4)
        assert (status, content.decode()) == (
            400,
            "a path contains a line break: export CSV instead",
        )
        assert ask(page, "export?as=csv", b"\0" * 4)[0] == 200


def test_the_rows_have_their_places_and_classes(page: pomona.Look) -> None:
    about = json.loads(ask(page, "table.json")[1])
    assert (about["placed"], about["rows"], about["text"]) == (30, 32, False)
    assert about["labels"] == ["Kiwi", "Pêche"]  # Kiwi has two files more
    assert len(ask(page, "points")[1]) == 4 * 32 + 4 * 30 + 32


# The function ------------------------------------------------------------------------------------


def test_a_folder_of_images_becomes_a_table_first(
    pictures: Path, encoder: pomona.Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POMONA_CACHE", str(tmp_path / "cache"))
    with pomona.look(pictures, encoder=encoder, map="pca", browser=False) as page:
        assert len(tables.read(page.table.folder)) == 14
        assert page.table.folder.is_relative_to(tmp_path / "cache")
        assert ask(page, "small?row=0")[0] == 200
    with pytest.raises(OSError, match="refused"):
        ask(page, "table.json")


def test_what_does_not_fit_is_refused(
    folder: Path, encoder: pomona.Encoder, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="is a feature table: leave `table` out"):
        pomona.look(folder, tmp_path / "t", browser=False)
    with pytest.raises(EncoderError, match="another encoder made the table"):
        pomona.look(folder, encoder=encoder, browser=False)
    empty = tables.write(tmp_path / "t", np.empty((0, 3)), [], failed=[("file:/x/a.jpg", "empty")])
    with pytest.raises(TableError, match="has no row with a vector"):
        pomona.look(empty, browser=False)


def test_a_port_in_use_is_refused(folder: Path, page: pomona.Look) -> None:
    with pytest.raises(RunError, match="cannot listen on `port`"):
        pomona.look(folder, map="pca", port=urlsplit(page.url).port or 0, browser=False)


# The command -------------------------------------------------------------------------------------


def test_the_command_prints_the_url_and_ends_with_ctrl_c(
    capfd: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(page: pomona.Look) -> None:
        assert ask(page, "table.json")[0] == 200
        raise KeyboardInterrupt

    monkeypatch.setattr(pomona.Look, "wait", interrupted)
    arguments = ["look", folder, "--map", "pca", "--no-browser"]
    code, out, err = run(capfd, *arguments)
    assert (code, err) == (0, "pomona: Ctrl-C ends the page\n")
    assert out.startswith("http://127.0.0.1:")
    _, out, _ = run(capfd, *arguments, "--json")
    assert json.loads(out)["table"] == str(folder)


def test_bad_use_is_one_line(capfd: pytest.CaptureFixture[str], folder: Path) -> None:
    code, out, err = run(capfd, "look", folder, "--label", "none", "--map", "pca")
    assert (code, out) == (2, "")
    assert err == f"pomona: {folder} is a feature table: leave --label out\n"
