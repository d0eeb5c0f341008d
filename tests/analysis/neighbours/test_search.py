"""Search: nearest neighbours, exact or from an index, for rows and for image files."""

from __future__ import annotations

import json
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import drawn
import pomona
import tables
from command_line import run
from network_files import onnx_network
from pomona.analysis.figures.contact_sheet import Cell, draw_sheet, save_picture
from pomona.analysis.neighbours.exact import Nearest, nearest_rows
from pomona.analysis.neighbours.faiss_index import _FILE, NearestIndex, table_state
from pomona.analysis.neighbours.queries import Query
from pomona.analysis.neighbours.search import Match, SearchResult, search_with
from pomona.analysis.similarity import centred_directions, plain_directions
from pomona.analysis.table_encoder import encoder_of_table
from pomona.analysis.vectors import Block, open_vectors, unit
from pomona.cli.render import show_matches
from pomona.encoder.encoder import Encoder
from pomona.errors import EncoderError, SourceError, UsageError
from pomona.table.feature_table import FeatureTable

RANDOM = np.random.default_rng(5)
CENTRES = RANDOM.normal(size=(8, 16))
MATRIX = (CENTRES[np.arange(400) % 8] + RANDOM.normal(scale=0.4, size=(400, 16))).astype(np.float32)
LABELS = ["abcdefgh"[i % 8] for i in range(400)]
FAILED = [("file:/pictures/a/empty.jpg", "empty")]


def no_encoder(_: object) -> Encoder:
    raise AssertionError("no encoder is needed for rows")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> FeatureTable:
    folder = tmp_path_factory.mktemp("search")
    return FeatureTable(tables.write(folder, MATRIX, LABELS, failed=FAILED, parts=3))


def brute_force(query: np.ndarray) -> np.ndarray:
    """Cosines of a vector and all rows, in float64, less the centre of the table."""
    centre = MATRIX.sum(axis=0, dtype=np.float64) / (len(MATRIX) + 3)
    rows, query = MATRIX.astype(np.float64) - centre, query - centre
    return rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)


def path_of(row: int) -> str:
    return f"file:/pictures/{LABELS[row]}/{row}.jpg"


def test_nearest_rows_equal_brute_force_without_the_row_itself(table: FeatureTable) -> None:
    (result,) = search_with(table, [path_of(17)], no_encoder, k=10)
    cosines = brute_force(MATRIX[17].astype(np.float64))
    cosines[17] = -1
    best = np.argsort(-cosines)[:10]
    assert [match.path for match in result.matches] == [path_of(row) for row in best]
    assert [match.similarity for match in result.matches] == pytest.approx(cosines[best], abs=1e-6)
    assert [match.label for match in result.matches] == [LABELS[row] for row in best]


@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 5))
def test_block_size_does_not_change_the_nearest_rows(rows: int, k: int, block: int) -> None:
    vectors = unit(MATRIX[:rows])
    blocks = [
        Block(
            pa.array([str(i) for i in range(at, min(at + block, rows))]),
            pa.array([None] * (min(at + block, rows) - at), pa.string()),
            vectors[at : min(at + block, rows)],
        )
        for at in range(0, rows, block)
    ]
    queries = unit(MATRIX[50:53])
    result = nearest_rows(blocks, queries, k)
    scores = queries @ vectors.T
    for query in range(3):
        best = -np.sort(-scores[query])[:k]
        np.testing.assert_allclose(result.similarity[query, : len(best)], best, atol=1e-6)
        assert np.isneginf(result.similarity[query, len(best) :]).all()
        paths = [path for path in result.paths[query] if path is not None]
        np.testing.assert_allclose(scores[query, list(map(int, paths))], best, atol=1e-6)


def test_a_zero_vector_has_no_neighbours() -> None:
    np.testing.assert_array_equal(unit(np.zeros((2, 3), np.float32)), np.zeros((2, 3)))


def test_k_larger_than_the_table_returns_all_rows(tmp_path: Path) -> None:
    small = FeatureTable(tables.write(tmp_path / "t", MATRIX[:4], LABELS[:4]))
    (result,) = search_with(small, [path_of(0)], no_encoder, k=10)
    assert len(result.matches) == 3


def test_a_unique_path_suffix_identifies_a_row(table: FeatureTable) -> None:
    (result,) = search_with(table, ["b/17.jpg"], no_encoder, k=1)
    assert result.query.path == path_of(17)
    assert result.query.is_row


def test_a_path_suffix_may_contain_a_colon(tmp_path: Path) -> None:
    paths = ["file:/x/10:30/1.jpg", "file:/x/10:31/1.jpg"]
    two = FeatureTable(tables.write(tmp_path / "t", MATRIX[:2], ["a", "a"], paths))
    (result,) = search_with(two, ["10:31/1.jpg"], no_encoder)
    assert result.query.path == "file:/x/10:31/1.jpg"


def test_a_row_whose_file_name_is_not_utf8_is_found_by_its_path(tmp_path: Path) -> None:
    paths = ["file:///x/100%25 caf%E9.jpg", "file:/x/1.jpg"]
    two = FeatureTable(tables.write(tmp_path / "t", MATRIX[:2], ["a", "a"], paths))
    (result,) = search_with(two, paths[:1], no_encoder)
    assert result.query.is_row
    assert [match.path for match in result.matches] == ["file:/x/1.jpg"]


@pytest.mark.parametrize("name", ["some.txt", "some.csv"])
def test_a_list_names_images(table: FeatureTable, tmp_path: Path, name: str) -> None:
    head = "path\n" if name.endswith(".csv") else ""
    (tmp_path / name).write_text(f"{head}/pictures/b/17.jpg\n{path_of(3)}\n")
    found = pomona.search(table, tmp_path / name, k=1)
    assert [result.query.path for result in found] == [path_of(17), path_of(3)]


def test_a_list_without_a_path_is_refused(table: FeatureTable, tmp_path: Path) -> None:
    (tmp_path / "none.txt").write_text("")
    with pytest.raises(UsageError, match="nothing to search with"):
        pomona.search(table, tmp_path / "none.txt")
    (tmp_path / "other.csv").write_text("name\nx\n")
    with pytest.raises(SourceError, match="has no column 'path'"):
        pomona.search(table, tmp_path / "other.csv")


def test_an_ambiguous_path_suffix_is_refused_and_both_paths_are_shown(tmp_path: Path) -> None:
    paths = ["file:/x/a/1.jpg", "file:/y/a/1.jpg"]
    two = FeatureTable(tables.write(tmp_path / "t", MATRIX[:2], ["a", "a"], paths))
    with pytest.raises(SourceError, match="matches several paths, file:/x/a/1.jpg and"):
        search_with(two, ["a/1.jpg"], no_encoder)


def test_a_row_without_a_vector_is_refused_with_its_status(table: FeatureTable) -> None:
    with pytest.raises(SourceError, match="a row without a vector .status empty."):
        search_with(table, ["file:/pictures/a/empty.jpg"], no_encoder)


def test_a_query_that_is_neither_row_nor_file_is_refused_before_an_encoder_is_loaded(
    table: FeatureTable, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match="neither a row of .* nor a file"):
        search_with(table, ["no/such.jpg"], no_encoder)
    with pytest.raises(SourceError, match="is a folder: give its images"):
        search_with(table, [str(tmp_path)], no_encoder)


def test_two_names_of_one_row_both_get_an_answer(table: FeatureTable) -> None:
    one, other = path_of(17), path_of(17).replace("file:", "file://")
    found = search_with(table, [one, other], no_encoder, k=2)
    assert [result.query.given for result in found] == [one, other]
    assert found[0].matches == found[1].matches


# Image files -------------------------------------------------------------------------------------


@pytest.fixture
def photos(pictures: Path, tmp_path: Path, encoder: Encoder) -> FeatureTable:
    pomona.extract(
        pictures, tmp_path / "photos.table", encoder=encoder, engine=pomona.LocalEngine(workers=1)
    )
    return FeatureTable(tmp_path / "photos.table")


def test_a_copy_outside_the_table_finds_its_original(
    photos: FeatureTable, pictures: Path, tmp_path: Path, encoder: Encoder
) -> None:
    original = pictures / "Apple Red 1" / "image 3.jpg"
    copy = tmp_path / "copy.dat"
    copy.write_bytes(original.read_bytes())
    (result,) = search_with(photos, [str(copy)], lambda _: encoder, k=2)
    assert not result.query.is_row
    assert result.matches[0].path == f"file:{original}"
    assert result.matches[0].similarity == pytest.approx(1, abs=1e-5)
    assert result.matches[1].similarity < result.matches[0].similarity


def test_a_file_with_a_row_is_read_from_the_table(photos: FeatureTable, pictures: Path) -> None:
    (result,) = search_with(
        photos, [str(pictures / "Apple Red 1" / "image 3.jpg")], no_encoder, k=1
    )
    assert result.query.is_row


@pytest.mark.parametrize("folder", ["", "./", "file:", "../Apple Red 1/"])
def test_a_relative_path_with_a_row_is_read_from_the_table(
    photos: FeatureTable, pictures: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.chdir(pictures / "Apple Red 1")
    (result,) = search_with(photos, [f"{folder}image 3.jpg"], no_encoder, k=1)
    assert result.query.is_row
    assert result.matches[0].path != result.query.path


@pytest.mark.parametrize("content", [b"", b"no picture", drawn.encode(drawn.picture(), "PNG")[:99]])
def test_a_broken_image_is_refused(
    photos: FeatureTable, tmp_path: Path, encoder: Encoder, content: bytes
) -> None:
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(SourceError, match=r"broken.png is (empty|unsupported|truncated): "):
        search_with(photos, [str(tmp_path / "broken.png")], lambda _: encoder)


def test_the_encoder_is_rebuilt_from_the_tables_provenance(
    photos: FeatureTable, encoder: Encoder
) -> None:
    assert encoder_of_table(photos.provenance()).fingerprint == encoder.fingerprint


def test_a_different_encoder_is_refused(photos: FeatureTable) -> None:
    with pytest.raises(EncoderError, match="they differ in weights: untrained:7 and untrained:8"):
        encoder_of_table(photos.provenance(), weights="untrained:8")


def test_a_different_known_network_is_refused_before_it_is_built(photos: FeatureTable) -> None:
    with pytest.raises(EncoderError, match=r"made by mobilenet_v2 with .*, not by resnet50"):
        encoder_of_table(photos.provenance(), model="resnet50", weights="no/such/file.h5")


def test_a_different_network_file_is_refused_by_its_layers(
    photos: FeatureTable, tmp_path: Path
) -> None:
    file = tmp_path / "other.onnx"
    onnx_network(file)
    (tmp_path / "other.onnx.toml").write_text(
        "resize_mode = 'squash'\nscale = 1\nlayer = 'embedding'\n"
    )
    with pytest.raises(EncoderError, match=r"made by mobilenet_v2 with .*, not by .*other.onnx"):
        encoder_of_table(photos.provenance(), model=str(file))


def test_weights_from_a_file_must_be_given(photos: FeatureTable) -> None:
    provenance = photos.provenance() | {"weights": "fruit.weights.h5", "fingerprint": "0" * 64}
    with pytest.raises(EncoderError, match="or weights: give the file as `weights`"):
        encoder_of_table(provenance)


def test_a_network_from_a_file_must_be_given(photos: FeatureTable) -> None:
    provenance = photos.provenance() | {"model": "fruit.keras", "weights": "fruit.keras"}
    provenance["fingerprint"] = "f" * 64  # not in any cache
    with pytest.raises(EncoderError, match="or weights: give the file as `model`, or the encoder"):
        encoder_of_table(provenance)


def test_weights_default_to_the_tables_if_only_the_network_is_given(
    photos: FeatureTable, encoder: Encoder
) -> None:
    result = encoder_of_table(photos.provenance(), model="mobilenet_v2")
    assert result.fingerprint == encoder.fingerprint


def test_lines_are_not_wrapped_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    path = f"file:/{'very/' * 100}long.jpg"
    query = Query("a.jpg", "file:/a.jpg", None, True, np.zeros(3, np.float32))
    show_matches([SearchResult(query, (Match(path, "Kiwi", 0.5),))])
    *_, line = capsys.readouterr().out.splitlines()
    assert line.split() == ["0.5000", "Kiwi", path]


# The index ---------------------------------------------------------------------------------------

pytest.importorskip("faiss", reason="an index needs FAISS: pip install '.[analysis]'")


@pytest.mark.parametrize("flat_rows", [400, 399])
def test_an_index_finds_the_results_of_an_exact_search(
    table: FeatureTable, tmp_path: Path, flat_rows: int
) -> None:
    built = NearestIndex.build(open_vectors(table), flat_rows=flat_rows)
    built.save(tmp_path / "i")
    index = NearestIndex.load(tmp_path / "i")
    assert index.about == built.about
    assert index.about.kind == ("flat" if flat_rows == 400 else "ivf")
    directions = centred_directions(open_vectors(table))
    queries = directions.of(MATRIX[:50])
    itself = [path_of(row) for row in range(50)]
    exact = nearest_rows(directions.blocks(), queries, 5, list(itself))
    np.testing.assert_array_equal(index.centre, directions.centre)
    result = index.search(queries, 5, itself)
    same = np.mean([path in exact.paths[q] for q in range(50) for path in result.paths[q]])
    assert same == 1 if flat_rows == 400 else same >= 0.9
    assert not any(itself[q] in result.paths[q] for q in range(50))
    known = {path_of(row): LABELS[row] for row in range(400)}
    assert [known[path] for path in result.paths.flat] == result.labels.flatten().tolist()


def test_an_index_without_vectors_finds_nothing(tmp_path: Path) -> None:
    none = FeatureTable(tables.write(tmp_path / "t", MATRIX[:0], [], failed=FAILED))
    index = NearestIndex.build(open_vectors(none))
    assert index.search(unit(MATRIX[:2]), 5).paths.shape == (2, 0)


def test_recall_is_measured_not_assumed(table: FeatureTable) -> None:
    about = NearestIndex.build(open_vectors(table), flat_rows=0).about
    assert about.measured_rows == 200
    assert 0.98 <= about.recall <= 1
    assert 1 <= about.probes <= about.cells == 80


def test_an_index_detects_a_changed_table(tmp_path: Path) -> None:
    folder = tables.write(tmp_path / "t", MATRIX[:9], LABELS[:9])
    before = NearestIndex.build(open_vectors(FeatureTable(folder))).about.table_state
    assert table_state(FeatureTable(folder)) == before
    tables.write(folder, MATRIX[9:12], LABELS[9:12], [f"file:/{i}" for i in range(3)])
    assert table_state(FeatureTable(folder)) != before


@given(st.binary(max_size=200).filter(lambda content: content[:7] != _FILE.magic[:7]))
def test_any_other_file_is_refused_as_an_index(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.mktemp("index") / "i"
    file.write_bytes(content)
    with pytest.raises(UsageError, match="is not a Pomona index: its first bytes differ"):
        NearestIndex.load(file)


@given(st.data())
def test_a_damaged_index_is_refused(table: FeatureTable, data: st.DataObject) -> None:
    file = table.folder.parent / "damaged.index"
    NearestIndex.build(open_vectors(table)).save(file)
    content = bytearray(file.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"is not a|is damaged|layout version|delete it: Pomona"):
        NearestIndex.load(file)


def test_an_index_contains_no_pickle(table: FeatureTable, tmp_path: Path) -> None:
    NearestIndex.build(open_vectors(table)).save(tmp_path / "i")
    content = (tmp_path / "i").read_bytes()
    _, sections = _FILE.unpack(content, "i", lambda *parts: parts)
    assert sections["rows"][:4] == b"PAR1"
    assert sections["directions"][:4] == b"IxFI"  # FAISS's magic number of a flat index
    assert _FILE.pack(asdict(NearestIndex.load(tmp_path / "i").about), sections) == content


@pytest.mark.parametrize("field", ["rows", "dimension"])
def test_an_index_with_inconsistent_parts_is_refused(
    table: FeatureTable, tmp_path: Path, field: str
) -> None:
    NearestIndex.build(open_vectors(table)).save(tmp_path / "i")
    header, sections = _FILE.unpack((tmp_path / "i").read_bytes(), "i", lambda *parts: parts)
    header[field] += 1
    (tmp_path / "i").write_bytes(_FILE.pack(header, sections))
    with pytest.raises(UsageError, match="400 vectors of 16 numbers"):
        NearestIndex.load(tmp_path / "i")


@pytest.mark.parametrize("flat_rows", [400, 0])
def test_an_index_finds_the_rows_with_the_largest_cosines_to_a_text(
    table: FeatureTable, flat_rows: int
) -> None:
    texts = unit(RANDOM.normal(size=(20, 16)).astype(np.float32))
    exact = nearest_rows(plain_directions(open_vectors(table)).blocks(), texts, 5)
    index = NearestIndex.build(open_vectors(table), flat_rows=flat_rows)
    found = index.search_texts(texts, 5)
    same = np.mean([path in exact.paths[q] for q in range(20) for path in found.paths[q]])
    assert same == 1
    cosines = texts @ unit(MATRIX).T
    for query in range(20):
        rows = [int(Path(path).stem) for path in found.paths[query]]
        np.testing.assert_allclose(found.similarity[query], cosines[query, rows], atol=1e-6)


def test_other_archives_are_not_changed(
    capfd: pytest.CaptureFixture[str], table: FeatureTable, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("1.txt", "a photo")
    for file in tmp_path.iterdir():
        before = file.read_bytes()
        code, _, err = run(capfd, "search", table.folder, path_of(3), "--index", file)
        assert (code, err.count("\n")) == (2, 1)
        assert "is not a Pomona index" in err
        assert file.read_bytes() == before


def test_without_faiss_the_error_names_the_extra(
    table: FeatureTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UsageError, match=r"pip install '\.\[analysis\]'"):
        NearestIndex.build(open_vectors(table))


# The command -------------------------------------------------------------------------------------


def test_the_command_prints_json(capfd: pytest.CaptureFixture[str], table: FeatureTable) -> None:
    code, out, err = run(capfd, "search", table.folder, path_of(3), "d/11.jpg", "-k", 2, "--json")
    output = json.loads(out)
    assert (code, err) == (0, "")
    assert (output["method"], output["k"]) == ("exact", 2)
    assert [result["path"] for result in output["results"]] == [path_of(3), path_of(11)]
    assert {len(result["matches"]) for result in output["results"]} == {2}


def test_the_command_shows_label_path_and_similarity(
    capfd: pytest.CaptureFixture[str], table: FeatureTable
) -> None:
    _, out, _ = run(capfd, "search", table.folder, path_of(3), "-k", 1)
    first, head, result = out.splitlines()
    assert first == f"{path_of(3)} (d)"
    assert head.split() == ["similarity", "label", "path"]
    assert result.split()[1:] == ["d", result.split()[2]]
    assert result.split()[2].startswith("file:/pictures/d/")


def test_the_index_is_built_once_and_again_after_the_table_grows(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tables.write(tmp_path / "t", MATRIX[:9], LABELS[:9])
    arguments = ("search", folder, path_of(3), "--index", tmp_path / "i", "-k", 20, "--json")
    _, out, err = run(capfd, *arguments)
    assert "flat index of 9 rows, exact" in err
    assert len(json.loads(out)["results"][0]["matches"]) == 8
    before = (tmp_path / "i").stat()
    run(capfd, *arguments)
    after = (tmp_path / "i").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    tables.write(folder, MATRIX[9:12], LABELS[9:12])
    _, out, err = run(capfd, *arguments)
    assert "has changed since the index was built" in err
    assert len(json.loads(out)["results"][0]["matches"]) == 11


def test_an_index_of_another_encoder_is_not_changed(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, table: FeatureTable
) -> None:
    folder = tables.write(tmp_path / "t", MATRIX[:9], LABELS[:9], fingerprint="b" * 64)
    run(capfd, "search", folder, path_of(3), "--index", tmp_path / "i")
    before = (tmp_path / "i").read_bytes()
    code, _, err = run(capfd, "search", table.folder, path_of(3), "--index", tmp_path / "i")
    assert code == 2
    assert "index of a table of another encoder" in err
    assert (tmp_path / "i").read_bytes() == before


@pytest.mark.parametrize("sheet", ["near.txt", "no/such/folder/near.png"])
def test_an_unwritable_sheet_is_refused_first(
    capfd: pytest.CaptureFixture[str], table: FeatureTable, tmp_path: Path, sheet: str
) -> None:
    file = tmp_path / sheet
    code, out, err = run(capfd, "search", table.folder, path_of(3), "--sheet", file)
    assert (code, out) == (2, "")
    assert str(file) in err
    assert err.count("\n") == 1


def test_a_sheet_wider_than_a_webp_can_be_is_refused(tmp_path: Path) -> None:
    sheet = draw_sheet([[Cell("none", "", "")] * 140])
    with pytest.raises(UsageError, match=r"17372 x \d+ pixels are more than a .webp can have"):
        save_picture(sheet, tmp_path / "near.webp")
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match="is too large: ask for fewer images"):
        draw_sheet([[Cell("none", "", "")] * 1000])


@pytest.mark.parametrize("more", [[], ["--index", "i"]])
def test_k_may_be_larger_than_the_table(
    capfd: pytest.CaptureFixture[str],
    table: FeatureTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    k = ["-k", 10**12, "--json"]
    code, out, _ = run(capfd, "search", table.folder, path_of(3), *k, *more)
    assert code == 0
    assert len(json.loads(out)["results"][0]["matches"]) == 399


def test_the_sheet_shows_the_images(
    capfd: pytest.CaptureFixture[str], photos: FeatureTable, pictures: Path, tmp_path: Path
) -> None:
    query = pictures / "Apple Red 1" / "image 3.jpg"
    code, _, _ = run(
        capfd, "search", photos.folder, query, "-k", 4, "--sheet", tmp_path / "near.png"
    )
    assert code == 0
    with Image.open(tmp_path / "near.png") as sheet, Image.open(query) as original:
        assert sheet.size == (12 + 5 * 124, 12 + 154)
        width, height = original.size
        left, top = 12 + (112 - width) // 2, 12 + (112 - height) // 2  # centred in its cell
        shown = sheet.convert("RGB").crop((left, top, left + width, top + height))
        np.testing.assert_array_equal(np.asarray(shown), np.asarray(original.convert("RGB")))


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_sheet_accepts_any_name_and_a_missing_image(above: str, below: str) -> None:
    sheet = draw_sheet([[Cell("file:/no/such.jpg", above, below)]])
    assert sheet.getpixel((20, 20)) == (0xEC, 0xEC, 0xEC)


def test_no_results_are_an_empty_list() -> None:
    assert np.isneginf(Nearest.none(2, 3).similarity).all()


def test_python_searches_by_path_with_an_index_and_without(tmp_path: Path) -> None:
    folder = tables.write(tmp_path / "t", MATRIX[:9], LABELS[:9])
    (exact,) = pomona.search(folder, path_of(3), k=4)
    (indexed,) = pomona.search(FeatureTable(folder), [path_of(3)], k=4, index=tmp_path / "i")
    assert [match.path for match in exact.matches] == [match.path for match in indexed.matches]
    assert (exact.method, indexed.method) == ("exact", "flat")


def test_an_option_without_its_file_does_not_consume_the_next_option(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tables.write(tmp_path / "t", MATRIX[:9], LABELS[:9])
    code, _, err = run(capfd, "search", folder, path_of(3), "--index", "-k", "2")
    assert code == 2
    assert "'-k' looks like an option" in err
