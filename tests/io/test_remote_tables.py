"""Tables in an object store: every command that reads a table can read them there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import object_store
import pomona
import tables
from pomona.cli import main as cli
from pomona.errors import TableError
from pomona.io import file_systems
from pomona.table.feature_table import FeatureTable


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[object_store.ObjectStore]:
    """An object store configured by environment variables, like a user's own server."""
    with object_store.serving() as running:
        object_store.configure(monkeypatch, running.endpoint)
        yield running


@pytest.fixture
def near(tmp_path: Path) -> Path:
    """A table of two classes on this machine."""
    noise = np.random.default_rng(0).normal(size=(40, 4))
    noise[::2, 0] += 20
    return tables.write(tmp_path / "near", noise, ["apple", "pear"] * 20, parts=3)


def _json_output(capfd: pytest.CaptureFixture[str], *arguments: str) -> Any:
    with pytest.raises(SystemExit) as exit_info:
        cli.main([*arguments, "--json"])
    out, err = capfd.readouterr()
    assert not exit_info.value.code, err
    return json.loads(out)


def test_every_command_reads_a_table_in_an_object_store_like_a_local_one(
    store: object_store.ObjectStore,
    near: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    store.put_folder(near, "/bucket/my tables/features")
    far = "s3a://bucket/my tables/features"
    classifier = str(tmp_path / "classifier")
    commands = [
        ["inspect"],
        ["search", "apple/0.jpg", "-k", "3"],
        ["duplicates"],
        ["train", "-o", classifier],
        ["report", "-o", str(tmp_path / "report.html")],
        ["project", "-k", "2", "--overwrite", "-o", str(tmp_path / "small")],
    ]
    for command, *rest in commands:
        here = _json_output(capfd, command, str(near), *rest)
        there = _json_output(capfd, command, far, *rest)
        for result in (here, there):
            for name in ("seconds", "bytes"):  # the page contains the table's name
                result.pop(name, None)
        assert there == json.loads(json.dumps(here).replace(str(near), far)), command
    labels = [a.label for a in pomona.classify(classifier, far)]
    assert labels == [a.label for a in pomona.classify(classifier, near)]
    assert len(labels) == 40


def test_the_s3_and_s3a_schemes_read_the_same_table(
    store: object_store.ObjectStore, near: Path
) -> None:
    store.put_folder(near, "/bucket/features")
    by_amazon, by_hadoop = (
        pomona.read_features(f"{scheme}://bucket/features") for scheme in ("s3", "s3a")
    )
    assert len(by_amazon) == 40
    assert np.array_equal(by_amazon.vectors, by_hadoop.vectors)


def test_partitions_and_managed_tables_in_an_object_store_are_recognized(
    store: object_store.ObjectStore, near: Path
) -> None:
    store.put_folder(near, "/bucket/delta/label=a")
    store.objects["/bucket/delta/_delta_log/00000000000000000000.json"] = b"{}"
    for place in ("delta", "delta/label=a"):
        with pytest.raises(TableError, match="a Delta table"):
            pomona.read_features(f"s3a://bucket/{place}")
    store.put_folder(near, "/bucket/parts/day=1")
    store.put_folder(near, "/bucket/parts/day=2")
    assert len(pomona.read_features("s3a://bucket/parts")) == 80


def test_a_missing_table_in_the_store_is_reported_without_its_secret(
    store: object_store.ObjectStore,
) -> None:
    with pytest.raises(TableError, match=r"s3a://key:\*\*\*@bucket/none is not a feature table"):
        FeatureTable.at(store.uri("/bucket/none")).provenance()


@pytest.mark.parametrize("scheme", ["gs", "gcs"])
def test_an_unreachable_google_storage_is_reported_quickly(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """By default Arrow would try for 15 minutes, and no signal would end it."""
    monkeypatch.setitem(file_systems._SETTINGS["gs"], "retry_limit_seconds", 1)
    away = f"{scheme}://anonymous@bucket/t?scheme=http&endpoint_override=127.0.0.1:1"
    with pytest.raises(TableError, match="cannot read TABLE"):
        pomona.read_features(away)
