"""The weights in the package, which `pretraining/` generated."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

import pomona
from conftest import REPOSITORY
from pomona.building import build
from pomona.building.keras import applications, drawn
from pomona.encoder.encoder import Encoder
from pomona.encoder.networks import find_card
from pomona.errors import EncoderError

FOLDER = Path(drawn.__file__).parent
PRETRAINING = REPOSITORY / "pretraining"


@pytest.fixture(scope="module")
def drawn_encoder(cache: Path) -> Encoder:  # noqa: ARG001 - built into the cache of the session
    return pomona.build_encoder("mobilenet_v2", "drawn")


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of 24 classes from the two families that were held out of training."""
    if not PRETRAINING.is_dir():
        pytest.skip("pretraining/ is not in source distributions")
    sys.path.insert(0, str(PRETRAINING))
    try:
        import held_out as families
    finally:
        sys.path.pop(0)
    folder = tmp_path_factory.mktemp("held_out")
    families.draw_tree(folder, classes=24, pictures=8)
    return folder


def features_of(folder: Path, table: Path, encoder: Encoder) -> tuple[np.ndarray, np.ndarray]:
    pomona.extract(folder, table, encoder=encoder, engine=pomona.LocalEngine(workers=1))
    rows = pq.read_table(table, columns=["label", "features"]).to_pylist()
    labels = np.array([row["label"] for row in rows])
    return np.array([row["features"] for row in rows], np.float32), labels


def agreement(features: np.ndarray, labels: np.ndarray) -> float:
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    likeness = unit @ unit.T
    np.fill_diagonal(likeness, -np.inf)
    return float((labels[likeness.argmax(1)] == labels).mean())


def test_the_file_matches_the_digest_of_its_card() -> None:
    card = json.loads((FOLDER / "card.json").read_text("utf-8"))
    digest = hashlib.sha256((FOLDER / card["file"]).read_bytes()).hexdigest()
    assert card["sha256"] == digest
    assert digest in (FOLDER / "MODEL_CARD.md").read_text("utf-8")


def test_the_file_is_small_enough_for_the_package() -> None:
    assert (FOLDER / "mobilenet_v2.weights.h5").stat().st_size < 5_000_000


def test_the_encoder_records_the_drawn_weights(drawn_encoder: Encoder) -> None:
    provenance = drawn_encoder.provenance()
    assert (provenance["model"], provenance["weights"], provenance["dimension"]) == (
        "mobilenet_v2",
        "drawn",
        "1280",
    )


def test_the_encoder_holds_the_numbers_of_the_file(drawn_encoder: Encoder) -> None:
    network = applications._network(find_card("mobilenet_v2"), "drawn")
    with h5py.File(FOLDER / "mobilenet_v2.weights.h5") as file:
        stored = file["layers/conv2d/vars/0"][()]
    assert stored.dtype == np.float16
    np.testing.assert_array_equal(network.get_layer("Conv1").get_weights()[0], stored)
    restored = applications.build("mobilenet_v2", "drawn")
    assert restored.fingerprint == drawn_encoder.fingerprint


def test_the_path_of_the_file_gives_the_same_vectors(drawn_encoder: Encoder) -> None:
    by_path = pomona.build_encoder("mobilenet_v2", str(FOLDER / "mobilenet_v2.weights.h5"))
    assert by_path.provenance()["weights_sha256"] == drawn_encoder.provenance()["weights_sha256"]


def test_held_out_families_are_separated_much_better_than_by_untrained_weights(
    drawn_encoder: Encoder, encoder: Encoder, held_out: Path, tmp_path: Path
) -> None:
    features, labels = features_of(held_out, tmp_path / "drawn", drawn_encoder)
    assert np.isfinite(features).all()
    assert ((features > 0).mean(0) > 0).mean() > 0.5  # most numbers carry information
    untrained = agreement(*features_of(held_out, tmp_path / "untrained", encoder))
    assert agreement(features, labels) >= 2 * untrained


def test_other_networks_have_no_drawn_weights() -> None:
    with pytest.raises(EncoderError, match="no drawn weights for resnet50, only for mobilenet_v2"):
        build.build_encoder("resnet50", "drawn")


def test_a_damaged_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("card.json", "mobilenet_v2.weights.h5"):
        shutil.copy(FOLDER / name, tmp_path / name)
    with (tmp_path / "mobilenet_v2.weights.h5").open("r+b") as file:
        file.seek(100_000)
        file.write(b"\xff" * 8)
    monkeypatch.setattr(drawn, "_FOLDER", tmp_path)
    with pytest.raises(EncoderError, match="install Pomona again"):
        drawn.drawn_weights("mobilenet_v2")
