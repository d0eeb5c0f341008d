"""CSV files of labels, written by programs and by people."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pomona.errors import UsageError
from pomona.source.labels import LabelRule, check_label_rule, parse_label_rule

IMAGES = ["file:/data/x/0001.jpg", "file:/data/x/0002.png", "file:/data/y/photo 3.jpeg"]


def rule(folder: Path, content: str | bytes, more: str = "") -> LabelRule:
    file = folder / "labels.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return parse_label_rule(f"csv:{file}{more}")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", [(), ("path", "label"), ("Filename", "Class"), ("id", "breed")])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_separator_header_line_endings_and_encoding_are_detected(
    tmp_path: Path, separator: str, header: tuple[str, ...], end: str, encoding: str
) -> None:
    lines = [header, ("0001.jpg", "rouge"), ("x/0002.png", "poire d'été"), ("0003.jpg", '"a b"')]
    text = end.join(separator.join(line) for line in lines if line) + end
    labels = rule(tmp_path, text.encode(encoding))
    assert [labels(image) for image in IMAGES] == ["rouge", "poire d'été", None]


@given(
    separator=st.sampled_from(",;\t|"),
    labels=st.lists(
        st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1), min_size=1, max_size=8
    ),
)
def test_any_quoted_label_is_read_unchanged(
    tmp_path_factory: pytest.TempPathFactory, separator: str, labels: list[str]
) -> None:
    lines = [f"path{separator}label"]
    for number, label in enumerate(labels):
        quoted = label.replace('"', '""')
        lines.append(f'{number}.jpg{separator}"{quoted}"')
    read = rule(tmp_path_factory.mktemp("csv"), "\n".join(lines))
    for number, label in enumerate(labels):
        assert read(f"file:/data/{number}.jpg") == label


@pytest.mark.parametrize(
    "text",
    [
        "0001.jpg\tred, ripe\n0002.png\tgreen, ripe\n",
        "0001.jpg,red; ripe\n0002.png,green; ripe\n",
        "0001.jpg;0,5\n0002.png;0,7\n",
        "sep=;\n0001.jpg;a,b\n0002.png;c,d\n",
    ],
)
def test_a_label_may_contain_another_separator(tmp_path: Path, text: str) -> None:
    label = rule(tmp_path, text)(IMAGES[0])
    assert label in {"red, ripe", "red; ripe", "0,5", "a,b"}


def test_an_ambiguous_separator_must_be_specified(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="separator can be ';' or ',': specify it, .*:sep=;"):
        rule(tmp_path, "a,b;c\nd;e,f\n")
    assert rule(tmp_path, "x;0001.jpg,red\n", ":sep=,")("file:/x;0001.jpg") == "red"


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("id,kind,breed", "path=id,label=breed"),
        ("id,kind,a,b", None),
        ("filename,width,class", ""),
        ("ID,kind,Breed", "label=breed,path=id"),
    ],
)
def test_columns_are_selected_by_name(tmp_path: Path, header: str, columns: str | None) -> None:
    if columns is None:
        with pytest.raises(UsageError, match="which of its columns 'id', 'kind', 'a', 'b' are"):
            rule(tmp_path, f"{header}\n0001,dog,pug,1\n")
        return
    labels = rule(tmp_path, f"{header}\n0001,dog,pug\n", f":{columns}" if columns else "")
    assert labels(IMAGES[0]) == "pug"


def test_column_and_file_names_may_contain_commas_colons_and_equals_signs(
    tmp_path: Path,
) -> None:
    file = tmp_path / "a:path=b.csv"
    file.write_text("image\tcolour, shade\tx=1:y\n0001\tred\tbig\n")
    assert parse_label_rule(f"csv:{file}:path=image,label=x=1:y")(IMAGES[0]) == "big"
    plain = tmp_path / "with:colon.csv"
    plain.write_text("image\tcolour, shade\tx=1:y\n0001\tred\tbig\n")
    for name, label in (("colour, shade", "red"), ("x=1:y", "big")):
        assert parse_label_rule(f"csv:{plain}:path=image,label={name}")(IMAGES[0]) == label
    exact = tmp_path / "l.csv:path=id,label=x"
    exact.write_text("0001,red\n")
    assert parse_label_rule(f"csv:{exact}")(IMAGES[0]) == "red"


def test_stems_suffixes_absolute_paths_and_uris_identify_an_image(tmp_path: Path) -> None:
    names = ["0001", "0001.jpg", "x/0001", "./x/0001.jpg", "../x/0001.jpg", "x\\0001.jpg"]
    names += [
        "/data/x/0001.jpg",
        "/data/x/0001",
        "file:/data/x/0001.jpg",
        "file:///data/x/0001.jpg",
    ]
    for name in names:
        assert rule(tmp_path, f"{name},red\n")(IMAGES[0]) == "red", name
    assert rule(tmp_path, "file:///data/y/photo%203.jpeg,red\n")(IMAGES[2]) == "red"
    assert rule(tmp_path, "s3://b/x/1.jpg,red\n")("s3a://b/x/1.jpg") == "red"
    for name in ("001.jpg", "0001.png", "1", "ata/x/0001.jpg"):
        assert rule(tmp_path, f"{name},red\n")(IMAGES[0]) is None, name


def test_a_line_that_matches_two_images_is_an_error_before_any_work(tmp_path: Path) -> None:
    stems = rule(tmp_path, "0001,red\n")
    with pytest.raises(UsageError, match=r"line 1 \('0001'\) matches two images"):
        check_label_rule(stems, lambda: ["file:/d/0001.jpg", "file:/d/0001.png"])
    names = rule(tmp_path, "path,label\na.jpg,red\n")
    with pytest.raises(UsageError, match=r"line 2 \('a.jpg'\) matches two images"):
        check_label_rule(names, lambda: ["file:/d/x/a.jpg", "file:/d/y/a.jpg"])
    longer = rule(tmp_path, "x/a.jpg,red\ny/a.jpg,green\n")
    check_label_rule(longer, lambda: ["file:/d/x/a.jpg", "file:/d/y/a.jpg"])


@pytest.mark.parametrize("turned", [False, True])
def test_a_complete_file_name_matches_that_file_only(tmp_path: Path, turned: bool) -> None:
    images = ["file:/d/a.jpg", "file:/d/a.jpg.png"]
    labels = rule(tmp_path, "a.jpg,red\n")
    checked = check_label_rule(labels, lambda: images[::-1] if turned else images)
    assert [checked(image) for image in images] == ["red", None]


def test_a_csv_file_that_matches_no_image_is_refused_with_an_example_of_each_side(
    tmp_path: Path,
) -> None:
    labels = rule(tmp_path, "path,label\nIMG_7.JPG,red\n")
    message = (
        r"line 2 has 'IMG_7.JPG', an image is file:/data/x/0001.*: give that path, or its last part"
    )
    with pytest.raises(UsageError, match=message):
        check_label_rule(labels, lambda: IMAGES)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("a.jpg,x\nb.jpg,y\na.jpg,z\n", "1 has 'a.jpg' with the label 'x', line 3 has it with 'z'"),
        ("a.jpg,x\n./a.jpg,y\n", "line 1 has .* line 2 has"),
        ("a.jpg,x\nb.jpg,y,z\n", "line 2 has 3 fields, line 1 has 2"),
        ("a.jpg\nb.jpg\n", "found no separator"),
        ("", "found no separator"),
        ("1,a.jpg,x\n2,b.jpg,y\n", "columns '1', 'a.jpg', 'x' .* if its first line does not name"),
        ("path,label\n", "no line with a path and a label"),
        (b"\xff\xfe\x00", "save it as UTF-8"),
        (b"a\xe9.jpg,x\n", "save it as UTF-8"),
        ("a.jpg,x\n".encode("utf-16-le"), "not a text file, or UTF-16 without a mark"),
        ('"a.jpg,x\n', "line 1 cannot be read"),
    ],
)
def test_an_invalid_line_is_refused_with_its_number(
    tmp_path: Path, content: str | bytes, why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        rule(tmp_path, content)


def test_a_duplicate_line_and_an_empty_label_are_not_errors(tmp_path: Path) -> None:
    labels = rule(tmp_path, "0001.jpg,red\n\n0001.jpg,red\n0002.png,\n;,\n")
    assert [labels(image) for image in IMAGES] == ["red", None, None]


@given(content=st.binary(max_size=200))
def test_any_bytes_give_labels_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    with suppress(UsageError):
        rule(tmp_path_factory.mktemp("csv"), content)
