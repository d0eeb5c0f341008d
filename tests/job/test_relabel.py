"""An existing table gets new labels without running the network, and keeps them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import drawn
import pomona
import tables
from pomona.cli import main as cli
from pomona.encoder.encoder import Encoder
from pomona.errors import UsageError
from pomona.job import plan
from pomona.job.summary import Summary


def labels(table: Path) -> dict[str, str | None]:
    return {name: row["label"] for name, row in tables.rows(table).items()}


def without_labels(table: Path) -> object:
    return tables.read(table).drop_columns("label")


def test_labels_change_in_place_without_the_network_and_later_runs_keep_them(
    extract: Callable[..., Summary], encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    table, csv = tmp_path / "t", tmp_path / "labels.csv"
    pomona.extract(pictures, table, encoder=encoder, engine=pomona.LocalEngine(workers=1))
    before = without_labels(table)
    csv.write_text("file;class\nimage 3;ripe\nimage 1.png;green\nempty.jpg;green\n")
    planned = extract(pictures, table, label=f"csv:{csv}", dry_run=True)
    assert labels(table)["image 3.jpg"] == "Apple Red 1"
    summary = extract(pictures, table, label=f"csv:{csv}")
    assert planned.changes == summary.changes
    assert (summary.changes.relabelled, summary.changes.labelled, summary.model_loads) == (14, 3, 0)
    assert (summary.ok, summary.skipped) == (0, 14)
    named = {name: label for name, label in labels(table).items() if label}
    assert named == {"image 3.jpg": "ripe", "image 1.png": "green", "empty.jpg": "green"}
    assert without_labels(table).equals(before)
    assert pomona.FeatureTable(table).provenance()["fingerprint"] == encoder.fingerprint
    # A run without a label option follows the same rule, also for new images.
    (pictures / "later").mkdir()
    (pictures / "later" / "late.png").write_bytes(drawn.encode(drawn.picture(9, 9, 5), "PNG"))
    csv.write_text("file;class\nimage 3;ripe\nimage 1.png;red\nempty.jpg;green\nlate;new\n")
    kept = extract(pictures, table)
    assert (kept.changes.relabelled, kept.changes.new, kept.changes.labels_kept) == (1, 1, 0)
    named = {name: label for name, label in labels(table).items() if label}
    assert named == {
        "image 3.jpg": "ripe",
        "image 1.png": "red",
        "empty.jpg": "green",
        "late.png": "new",
    }
    back = extract(pictures, table, label="parent")
    assert back.changes.relabelled == 15
    assert extract(pictures, table).changes.relabelled == 0
    assert labels(table)["late.png"] == "later"
    assert labels(table)["image 3.jpg"] == "Apple Red 1"


def test_rows_of_other_sources_keep_their_labels(
    extract: Callable[..., Summary], pictures: Path, tmp_path: Path
) -> None:
    extract(pictures / "Apple Red 1", tmp_path / "t")
    extract(pictures / "Poire d'été", tmp_path / "t", label="regex:(image .)")
    result = labels(tmp_path / "t")
    assert {result["image 1.png"], result["image 2.webp"]} == {"Apple Red 1", "image 2"}


def test_labels_of_a_table_without_a_label_rule_are_kept_and_counted(
    extract: Callable[..., Summary], encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    pomona.extract(
        pictures,
        tmp_path / "t",
        encoder=encoder,
        label="none",
        engine=pomona.LocalEngine(workers=1),
    )
    (tmp_path / "t" / ".pomona-label.json").unlink()  # tables of earlier versions lack it
    summary = extract(pictures, tmp_path / "t")
    assert (summary.changes.labels_kept, summary.changes.relabelled) == (14, 0)
    assert set(labels(tmp_path / "t").values()) == {None}


def test_many_labels_change_in_bounded_batches(
    encoder: Encoder, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_SET_ASIDE", 2)
    for folder in sorted(pictures.iterdir()):
        if folder.is_dir() and folder.name[0] not in "._":
            pomona.extract(
                folder, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1)
            )
    summary = pomona.extract(
        pictures,
        tmp_path / "t",
        encoder=encoder,
        label="regex:/([^/]+)$",
        engine=pomona.LocalEngine(workers=1),
    )
    assert summary.changes.relabelled >= 14
    result = labels(tmp_path / "t")
    assert result == {name: name for name in result}


def test_modified_and_pruned_rows_and_new_labels_combine(
    extract: Callable[..., Summary], encoder: Encoder, pictures: Path, tmp_path: Path
) -> None:
    pomona.extract(pictures, tmp_path / "t", encoder=encoder, engine=pomona.LocalEngine(workers=1))
    picture = pictures / "Apple Red 1" / "image 3.jpg"
    picture.write_bytes(drawn.encode(drawn.picture(20, 20, 8), "JPEG"))
    (pictures / "Apple Red 1" / "image 1.png").unlink()
    rule = "regex:/([^/]+)$"
    summary = extract(pictures, tmp_path / "t", label=rule, resume=pomona.Resume(prune=True))
    assert (summary.changes.changed, summary.changes.pruned, summary.changes.relabelled) == (
        1,
        1,
        12,
    )
    pomona.extract(
        pictures,
        tmp_path / "fresh",
        encoder=encoder,
        label=rule,
        engine=pomona.LocalEngine(workers=1),
    )
    assert tables.read(tmp_path / "t").equals(tables.read(tmp_path / "fresh"))


def test_a_csv_file_that_names_no_image_is_refused_before_the_table_changes(
    extract: Callable[..., Summary], pictures: Path, tmp_path: Path
) -> None:
    csv = tmp_path / "labels.csv"
    csv.write_text("path,label\nIMG_1.JPG,red\n")
    with pytest.raises(UsageError, match="line 2 has 'IMG_1.JPG', an image is .*image"):
        extract(pictures, tmp_path / "t", label=f"csv:{csv}", resume=pomona.Resume(prune=True))
    assert not (tmp_path / "t").exists()


def test_the_command_line_reports_label_changes(
    capfd: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, encoder_file: Path
) -> None:
    def run(*more: str, code: int = 0) -> str:
        words = ["extract", str(pictures), str(tmp_path / "t"), "--encoder", str(encoder_file)]
        with pytest.raises(SystemExit) as exit_info:
            cli.main([*words, *more])
        assert int(exit_info.value.code or 0) == code
        return "".join(capfd.readouterr())

    run()
    csv = tmp_path / "labels.csv"
    csv.write_text("path,label\nimage 3.jpg,ripe\n")
    rule = ["--label", f"csv:{csv}"]
    assert "labels would be changed: 14" in run(*rule, "--dry-run")
    output = run(*rule)
    assert "labels changed: 14\n" in output
    assert "labels: 1 of 14 images has a label" in output
    assert output.startswith("no image to compute: 14 images already done\n")
    csv.write_text("path,label\nimage 3.jpg,raw\n")
    result = json.loads(run("--json"))
    assert (result["labels_changed"], result["labelled"], result["model_loads"]) == (1, 1, 0)
    assert result["label"] == f"csv:{csv}"
    csv.write_text("path,label\nIMG_1.JPG,red\n")
    assert run(*rule, code=2).count("\n") == 1
    csv.unlink()
    output = run(code=2)
    assert "an earlier run labelled TABLE by --label csv:" in output
    assert output.count("\n") == 1
