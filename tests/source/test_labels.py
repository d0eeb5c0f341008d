from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from pomona.errors import UsageError
from pomona.source.labels import parse_label_rule

PATH = "file:/data/Apple Red 1/321_100.jpg"


@pytest.mark.parametrize(
    ("rule", "label"),
    [
        ("parent", "Apple Red 1"),
        ("none", None),
        (r"regex:/(\d+)_\d+\.jpg$", "321"),
        ("regex:(Pear)", None),
    ],
)
def test_a_label_comes_from_the_path(rule: str, label: str | None) -> None:
    assert parse_label_rule(rule)(PATH) == label


def test_an_image_at_the_root_has_no_parent_label() -> None:
    assert parse_label_rule("parent")("file:/a.jpg") is None


def test_a_csv_file_gives_labels_by_uri_path_and_path_suffix(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(
        'file:/data/a.jpg,by uri\n/data/b.jpg,by path\n./x/c.jpg,by end\n"odd, name.jpg","a, b"\n'
    )
    rule = parse_label_rule(f"csv:{file}")
    assert rule("file:/data/a.jpg") == "by uri"
    assert rule("file:/data/b.jpg") == "by path"
    assert rule("s3a://bucket/x/c.jpg") == "by end"
    assert rule("file:/data/odd, name.jpg") == "a, b"
    assert rule("file:/data/xb.jpg") is None


@pytest.mark.parametrize("rule", ["parent", "none", "regex:(a)"])
def test_label_rules_can_be_pickled_to_workers(rule: str) -> None:
    parsed = parse_label_rule(rule)
    assert pickle.loads(pickle.dumps(parsed))(PATH) == parsed(PATH)


NO_FILE = ["csv", "csv:", "csv: ", "csv::path=id", "csv::path=id,label=breed"]


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("folder", "expected parent, none, regex:PATTERN, csv:FILE or column:COLUMN"),
        ("regex:", "expected parent"),
        ("regex:(", "not a regular expression"),
        ("regex:(a{5000000000})", "not a regular expression"),
        ("regex:" + "(" * 5000 + ")" * 5000, "not a regular expression"),
        ("regex:abc", "put the label in a group"),
        ("csv:/nowhere/labels.csv", "/nowhere/labels.csv does not exist: expected csv:FILE"),
        ("csv:/nowhere/l.csv:path=id", "csv:/nowhere/l.csv: /nowhere/l.csv does not exist"),
        ("csv:/", "csv:/: it is a folder: expected csv:FILE"),
        *((text, f"`label` '{text}' has no file: expected csv:FILE") for text in NO_FILE),
    ],
)
def test_the_error_for_an_invalid_rule_says_what_was_expected(rule: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse_label_rule(rule)


def test_a_csv_line_with_three_fields_is_reported_with_its_number(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("a.jpg,x\nb.jpg,y,z\n")
    with pytest.raises(UsageError, match="line 2 has 3 fields"):
        parse_label_rule(f"csv:{file}")


def test_a_missing_csv_file_is_reported_with_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"csv:gone.csv: {tmp_path}/gone.csv does not exist"):
        parse_label_rule("csv:gone.csv")
