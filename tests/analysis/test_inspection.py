from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import tables
from pomona.analysis.inspection import Inspection, inspect
from pomona.cli.render import show_inspection
from pomona.schema import FEATURE_SCHEMA, schema_with_provenance
from pomona.table.feature_table import FeatureTable
from pomona.table.part_file import PartWriter

PROVENANCE = {"fingerprint": "f" * 64, "dimension": "3", "model": "tiny", "weights": "by hand"}


def inspected(folder: Path, *vectors: list[float] | None, status: str = "ok") -> Inspection:
    rows = [
        {"path": f"file:/{i}.jpg", "label": "x" if i % 2 else None, "features": v, "status": status}
        for i, v in enumerate(vectors)
    ]
    writer = PartWriter(folder / "part-0.parquet", schema_with_provenance(PROVENANCE))
    writer.write(pa.RecordBatch.from_pylist(rows, FEATURE_SCHEMA))
    writer.close()
    return inspect(FeatureTable(folder))


def test_rows_whose_files_no_longer_exist_are_counted(tmp_path: Path) -> None:
    (tmp_path / "here.png").touch()
    names = [f"file:{tmp_path}/{name}.png" for name in ("here", "gone", "away/gone")]
    tables.write(tmp_path / "t", [[1.0]] * 4, ["x"] * 4, [*names, "s3a://bucket/a.png"])
    result = inspect(FeatureTable(tmp_path / "t"), look_at_files=True)
    assert (result.missing_files, result.files_elsewhere) == (2, 1)
    assert inspect(FeatureTable(tmp_path / "t")).missing_files is None


def test_the_facts_of_an_inspection_are_in_one_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [f"file:{tmp_path}/gone.png", "s3a://bucket/a.png"]
    table = tables.write(tmp_path / "t", [[1.0]] * 2, ["x"] * 2, paths)
    show_inspection("t", inspect(FeatureTable(table), look_at_files=True))
    facts = capsys.readouterr().out.splitlines()[1:8]
    names = [line[:11].rstrip() for line in facts]
    told = ["model:", "dimension:", "vectors:", "classes:", "quality:", "missing:", "unchecked:"]
    assert names == told


def test_valid_vectors_pass(tmp_path: Path) -> None:
    result = inspected(tmp_path, [1, 2, 3], [0, 0, 1])
    assert result.check.passed
    assert (result.rows, result.check.vectors) == (2, 2)
    assert result.labels == {"x": 1, None: 1}


def test_quantiles_of_quality_are_those_of_numpy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = np.random.default_rng(0).beta(2, 5, (999, 2)).astype(np.float32)
    rows = [
        {"path": f"file:/{i}", "features": [1.0] * 3, "status": "ok", "brightness": b}
        | {"sharpness": s if i else None}
        for i, (b, s) in enumerate(drawn.tolist())
    ]
    rows += [{"path": "file:/old", "features": [1.0] * 3, "status": "ok"}]
    rows += [{"path": "file:/bad", "status": "corrupt"}]
    writer = PartWriter(tmp_path / "part-0.parquet", schema_with_provenance(PROVENANCE))
    writer.write(pa.RecordBatch.from_pylist(rows, FEATURE_SCHEMA))
    writer.close()
    found = inspect(tmp_path)
    for name, values in (("brightness", drawn[:, 0]), ("sharpness", drawn[1:, 1])):
        for share, value in found.quality[name].items():
            exact = np.quantile(values, share, method="inverted_cdf")
            assert value == pytest.approx(exact, abs=0.001), (name, share)
    assert found.unmeasured == 1
    show_inspection("t", found)
    assert "not measured in 1 row of an earlier version" in capsys.readouterr().out


def test_failed_rows_correctly_have_no_vector(tmp_path: Path) -> None:
    assert inspected(tmp_path, None, None, status="corrupt").check.passed


@pytest.mark.parametrize(
    ("vector", "fault"),
    [
        ([1, 2], "wrong_length"),
        ([1, 2, 3, 4], "wrong_length"),
        ([1, np.nan, 3], "not_finite"),
        ([1, np.inf, 3], "not_finite"),
        ([0, 0, 0], "all_zero"),
        (None, "missing"),
    ],
)
def test_an_invalid_vector_is_counted_by_its_fault(
    tmp_path: Path, vector: list[float] | None, fault: str
) -> None:
    check = inspected(tmp_path, [1, 2, 3], vector, [4, 5, 6]).check
    assert not check.passed
    assert getattr(check, fault) == 1


def test_the_output_is_json_even_if_a_vector_is_not_finite(tmp_path: Path) -> None:
    text = json.dumps(inspected(tmp_path, [1, np.nan, -np.inf]).to_json(), allow_nan=False)
    assert json.loads(text)["first_rows"][0]["features"] == [1, None, None]
