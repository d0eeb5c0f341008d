"""`.keras` files of Keras 2.12 to 2.15, which number layers differently."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from network_files import FILES, SCALED, encoder_from
from pomona.building.keras.renumber import renumber
from pomona.building.network_settings import NetworkSettings

OLD = "_layer_checkpoint_dependencies"


def save_with_old_numbering(path: Path, old: Path, *, on_windows: bool = False) -> None:
    """Copy a `.keras` file, with its weights laid out as in Keras 2.13."""
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(old, "w") as after:
        for name in ("metadata.json", "config.json"):
            after.writestr(name, before.read(name))
        weights = h5py.File(io.BytesIO(before.read("model.weights.h5")))
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            _copy(weights, file)
            if on_windows:
                arrays: dict[str, Any] = {}
                file.visititems(
                    lambda name, part: (
                        arrays.update({name: part[()]}) if isinstance(part, h5py.Dataset) else None
                    )
                )
                for name in list(file):
                    del file[name]
                for name, array in arrays.items():
                    group, _, index = name.rpartition("/")
                    file.require_group(group.replace("/", "\\"))[index] = array
        after.writestr("model.weights.h5", content.getvalue())


def _copy(source: Any, there: Any) -> None:
    for name, part in source.items():
        if name != "layers":
            source.copy(name, there)
            continue
        layers = there.create_group(OLD)
        counts: dict[str, int] = {}
        for layer in sorted(part, key=_place):
            kind = layer.rstrip("0123456789").rstrip("_") if "_" in layer else layer
            kind = kind if layer != kind and layer[len(kind) :][:1] == "_" else layer
            number = counts.get(kind, 0)
            has_weights = _has_arrays(part[layer])
            counts[kind] = number + (2 if has_weights else 1)
            inner = layers.create_group(f"{kind}_{number}" if number else kind)
            _copy(part[layer], inner)


def _place(name: str) -> tuple[str, int]:
    kind, _, number = name.rpartition("_")
    return (kind, int(number)) if number.isdecimal() else (name, 0)


def _has_arrays(group: Any) -> bool:
    result: list[str] = []
    group.visititems(
        lambda name, part: result.append(name) if isinstance(part, h5py.Dataset) else None
    )
    return bool(result)


@pytest.mark.parametrize("on_windows", [False, True])
@pytest.mark.parametrize(
    "file", ["keras2.keras", "keras2_functional.keras", "keras2_unusual.keras"]
)
def test_old_numbering_gives_the_same_features_and_fingerprint(
    tmp_path: Path, file: str, *, on_windows: bool
) -> None:
    settings = SCALED if file != "keras2.keras" else NetworkSettings()
    save_with_old_numbering(FILES / file, tmp_path / file, on_windows=on_windows)
    with zipfile.ZipFile(tmp_path / file) as archive:
        weights = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
    assert "layers" not in weights
    old, new = encoder_from(tmp_path / file, settings), encoder_from(FILES / file, settings)
    assert old.fingerprint == new.fingerprint
    assert old.probes == new.probes


def test_reading_weights_with_circular_links_terminates(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file.create_group("layers/conv2d")["around"] = file["/"]
    renumber(tmp_path / "weights.h5")
    with h5py.File(tmp_path / "weights.h5") as file:
        assert list(file) == ["layers"]


def test_a_keras_2_13_file_gives_the_features_of_its_h5(shared_data: Path) -> None:
    networks = shared_data / "trials" / "networks"
    if not networks.is_dir():
        pytest.skip("the shared data is not on this machine")
    one, other = (
        encoder_from(networks / "two_convs_213.keras"),
        encoder_from(networks / "two_convs_213.h5"),
    )
    assert one.fingerprint == other.fingerprint
    assert np.array_equal(np.frombuffer(one.probes), np.frombuffer(other.probes))
