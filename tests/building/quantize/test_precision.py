"""Encoders of lower precision: their properties, their portability, and refused requests."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import drawn
import pomona
import tables
from pomona.building.build import build_encoder
from pomona.building.quantize import calibration, precision
from pomona.building.quantize.calibration import FEWEST, MOST, sample_pixels
from pomona.building.quantize.precision import convert_encoder, quantize
from pomona.cli import main as cli
from pomona.encoder.encoder import Encoder
from pomona.encoder.preprocessing import Preprocessing
from pomona.errors import EncoderError, SourceError, TableError
from pomona.runtime import registry
from pomona.runtime.openvino import OpenVinoRuntime, import_openvino
from pomona.worker.decode import decode
from pomona.worker.resize import resize_to

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pyspark.sql import SparkSession

SPEC = Preprocessing(height=20, width=24, mean=(0.0,) * 3, std=(1.0,) * 3)


def draw(folder: Path, count: int, first: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        content = drawn.encode(drawn.picture(40 + seed % 20, 30, seed), "PNG")
        (folder / f"{seed:03}.png").write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("photos"), 40)


@pytest.fixture(scope="module")
def bf16(encoder: Encoder) -> Encoder:
    openvino = import_openvino()
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bf16")
    return convert_encoder(encoder, "bf16")


@pytest.fixture(scope="module")
def int8(encoder: Encoder, photos: Path) -> Encoder:
    need_nncf()
    return convert_encoder(encoder, "int8", photos)


@pytest.fixture(params=["bf16", "int8"])
def lowered(request: pytest.FixtureRequest) -> Encoder:
    converted: Encoder = request.getfixturevalue(request.param)
    return converted


def need_nncf() -> None:
    if find_spec("nncf") is None:
        pytest.skip("NNCF is not installed")


def features_of(encoder: Encoder, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    features = np.empty((len(pixels), encoder.dimension), np.float32)
    OpenVinoRuntime(encoder).predict(pixels, features)
    return features


def cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosine: NDArray[np.float32] = (one * other).sum(axis=1) / lengths
    return cosine


# Properties -------------------------------------------------------------------------------------


def test_precision_is_part_of_the_fingerprint_and_the_provenance(
    encoder: Encoder, lowered: Encoder
) -> None:
    assert lowered.fingerprint != encoder.fingerprint
    provenance, before = lowered.provenance(), encoder.provenance()
    new = {"fingerprint", "precision", "calibration", "quantized_sha256"}
    assert {key for key in provenance if provenance[key] != before.get(key)} <= new
    assert provenance["precision"] == lowered.precision


def test_features_are_close_to_float32_but_not_equal(
    encoder: Encoder, lowered: Encoder, photos: Path
) -> None:
    pixels = sample_pixels(photos, encoder.preprocessing)
    exact, less = features_of(encoder, pixels), features_of(lowered, pixels)
    assert cosines(less, exact).min() > 0.98
    assert not np.array_equal(less, exact)


def test_a_vector_does_not_depend_on_the_other_images_of_a_batch(
    lowered: Encoder, photos: Path
) -> None:
    pixels = sample_pixels(photos, lowered.preprocessing)[:6]
    alone = np.concatenate([features_of(lowered, one[None]) for one in pixels])
    np.testing.assert_array_equal(features_of(lowered, pixels), alone)
    np.testing.assert_array_equal(features_of(lowered, pixels[::-1])[::-1], alone)


@pytest.mark.spark
def test_both_engines_give_the_same_rows(
    spark: SparkSession, lowered: Encoder, pictures: Path, tmp_path: Path
) -> None:
    pomona.extract(
        pictures, tmp_path / "local", encoder=lowered, engine=pomona.LocalEngine(workers=2)
    )
    pomona.extract(
        pictures, tmp_path / "spark", encoder=lowered, engine=pomona.SparkEngine(spark=spark)
    )
    assert tables.read(tmp_path / "local").equals(tables.read(tmp_path / "spark"))


def test_a_float32_table_is_not_continued_in_bf16(
    encoder: Encoder, bf16: Encoder, pictures: Path, tmp_path: Path
) -> None:
    pomona.extract(
        pictures,
        tmp_path / "t",
        encoder=encoder,
        engine=pomona.LocalEngine(workers=1),
    )
    with pytest.raises(TableError, match=r"untrained:7 \(\w{12}\), .* \(\w{12}, bf16\)"):
        pomona.extract(pictures, tmp_path / "t", encoder=bf16, engine=pomona.LocalEngine(workers=1))
    summary = pomona.extract(
        pictures,
        tmp_path / "b",
        encoder=bf16,
        engine=pomona.LocalEngine(workers=1),
    )
    assert summary.encoder == bf16.fingerprint


def test_precision_f32_returns_the_same_encoder(encoder: Encoder) -> None:
    assert convert_encoder(encoder, "f32") is encoder


# int8 -------------------------------------------------------------------------------------------


def test_int8_records_its_calibration_and_is_a_third_of_the_size(
    encoder: Encoder, int8: Encoder
) -> None:
    assert int8.calibration.startswith("40 images, NNCF ")
    assert len(int8.constants) < len(encoder.constants) / 3
    assert Encoder.from_bytes(int8.to_bytes()) == int8


@pytest.mark.long
def test_the_same_images_give_the_same_int8_encoder_and_other_images_a_different_one(
    encoder: Encoder, int8: Encoder, photos: Path
) -> None:
    pixels = sample_pixels(photos, encoder.preprocessing)
    assert quantize(encoder, pixels) == int8
    assert quantize(encoder, 255 - pixels[:8]).fingerprint != int8.fingerprint


@pytest.mark.parametrize("instructions", ["AVX512_CORE", "AVX2"])
def test_int8_sums_do_not_overflow_on_a_processor_without_vnni(
    int8: Encoder, photos: Path, tmp_path: Path, instructions: str
) -> None:
    int8.save(tmp_path / "int8.encoder")
    pixels = sample_pixels(photos, int8.preprocessing)[:6]
    np.save(tmp_path / "pixels.npy", pixels)
    script = (
        "import numpy, sys\n"
        "from pomona.encoder.encoder import Encoder\n"
        "from pomona.runtime.registry import load_once\n"
        "folder = sys.argv[1]\n"
        "encoder = Encoder.load(f'{folder}/int8.encoder')\n"
        "pixels = numpy.load(f'{folder}/pixels.npy')\n"
        "features = numpy.empty((len(pixels), encoder.dimension), numpy.float32)\n"
        "load_once(encoder.fingerprint, lambda: encoder).predict(pixels, features)\n"
        "numpy.save(f'{folder}/features.npy', features)\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, tmp_path],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": instructions},
        check=True,
    )
    # Bit-identical except on AMX, which rounds some ties differently (docs/precision.md).
    # Overflowed sums are wrong by 0.3 or more.
    here = features_of(int8, pixels)
    off = np.abs(np.load(tmp_path / "features.npy") - here).max(axis=1) / here.max(axis=1)
    assert off.max() < 0.05


def test_a_network_that_cannot_be_quantized_is_one_clear_error(
    encoder: Encoder, photos: Path
) -> None:
    need_nncf()
    pixels = sample_pixels(photos, SPEC)  # with a size that the network does not support
    with pytest.raises(EncoderError, match=r"^NNCF [\d.]+ cannot quantize mobilenet_v2: .*bf16$"):
        quantize(encoder, pixels)


# Wrong precision --------------------------------------------------------------------------------


def test_a_processor_that_would_compute_bf16_in_float32_is_refused(
    bf16: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino = import_openvino()
    monkeypatch.setattr(openvino.CompiledModel, "get_property", lambda *_: openvino.Type.f32)
    with pytest.raises(EncoderError, match="in bf16, which this processor cannot.*use f32"):
        OpenVinoRuntime(bf16)


def test_a_precision_from_a_later_version_is_refused(encoder: Encoder) -> None:
    with pytest.raises(EncoderError, match="precision 'f4', this version computes f32, bf16, int8"):
        OpenVinoRuntime(replace(encoder, precision="f4"))


def test_each_precision_passes_its_own_gate(lowered: Encoder) -> None:
    registry.load_once(lowered.fingerprint, lambda: lowered)


def test_float32_vectors_do_not_pass_the_int8_gate(encoder: Encoder, int8: Encoder) -> None:
    other = replace(int8, probes=encoder.probes, weights_sha256="0" * 64)
    with pytest.raises(EncoderError, match=r"int8\) has other features here.*limit 0\.1\)"):
        registry.load_once(other.fingerprint, lambda: other)


def test_an_encoder_of_lower_precision_cannot_be_converted_again(lowered: Encoder) -> None:
    with pytest.raises(
        EncoderError, match=f"already has precision {lowered.precision}, expected f32"
    ):
        convert_encoder(lowered, "bf16")


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_only_openvino_supports_lower_precision(
    encoder: Encoder, photos: Path, precision: str
) -> None:
    if precision == "int8":
        need_nncf()
    onnx = replace(encoder, runtime="onnxruntime")
    with pytest.raises(EncoderError, match=f"only OpenVINO computes in {precision}: build it with"):
        convert_encoder(onnx, precision, photos if precision == "int8" else None)


# Calibration of int8 ----------------------------------------------------------------------------


def test_a_sample_equals_what_workers_pass_to_the_network(photos: Path) -> None:
    sample = sample_pixels(photos, SPEC)
    expected = {resize_to(decode(p.read_bytes()), 20, 24).tobytes() for p in photos.iterdir()}
    assert sample.shape == (40, 20, 24, 3)
    assert {pixels.tobytes() for pixels in sample} == expected


def test_a_sample_is_deterministic(photos: Path) -> None:
    np.testing.assert_array_equal(sample_pixels(photos, SPEC), sample_pixels(photos, SPEC))


def test_a_sample_contains_a_share_of_every_folder() -> None:
    order = list(calibration._spread(3 * MOST, np.random.default_rng(0)))
    assert sorted(order) == list(range(3 * MOST))
    assert sorted(index // 3 for index in order[:MOST]) == list(range(MOST))
    assert order[:MOST] != list(range(0, 3 * MOST, 3))


def test_a_sample_skips_images_that_cannot_be_decoded(tmp_path: Path) -> None:
    folder = draw(tmp_path / "photos", FEWEST)
    (folder / "000a.jpg").write_bytes(b"")
    (folder / "000b.jpg").write_bytes(b"<html>404</html>")
    assert len(sample_pixels(folder, SPEC)) == FEWEST


def test_a_sample_holds_only_the_images_it_needs(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "MOST", 35)
    assert len(sample_pixels(photos, SPEC)) == 35


def test_too_few_readable_images_are_one_clear_error(tmp_path: Path) -> None:
    folder = draw(tmp_path / "photos", FEWEST - 1)
    (folder / "000a.jpg").write_bytes(b"")
    with pytest.raises(EncoderError, match="has 29 different images .* in 30 files; expected 30"):
        sample_pixels(folder, SPEC)


@pytest.mark.parametrize("images", ["nowhere/", "s3a://bucket/photos"])
def test_images_that_are_not_on_this_machine_are_one_clear_error(images: str) -> None:
    with pytest.raises(SourceError, match="does not exist|not on this machine"):
        sample_pixels(images, SPEC)


# Refused requests -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "calibrate", "message"),
    [
        ("f16", None, "`precision` is 'f16': expected f32, bf16, int8"),
        ("int8", None, "needs images for calibration.*`calibrate`"),
        ("bf16", "photos", "`calibrate` is for `precision` int8"),
    ],
)
def test_an_unavailable_precision_is_reported_before_anything_is_built(
    name: str, calibrate: str | None, message: str
) -> None:
    with pytest.raises(EncoderError, match=message):
        precision.check_precision(name, calibrate)


def test_without_nncf_the_error_says_what_to_install(
    encoder: Encoder, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(EncoderError, match=r"pip install '\.\[int8\]'"):
        convert_encoder(encoder, "int8", photos)


def test_build_and_convert_write_the_same_encoder(
    encoder: Encoder, bf16: Encoder, tmp_path: Path
) -> None:
    encoder.save(tmp_path / "f32.encoder")
    build = ["build", "mobilenet_v2", "--weights", "untrained:7"]
    for command in (build, ["convert", str(tmp_path / "f32.encoder")]):
        output = tmp_path / f"{command[0]}.encoder"
        with pytest.raises(SystemExit, match="0"):
            cli.main(["encoder", *command, "--precision", "bf16", "-o", str(output)])
        assert Encoder.load(output) == bf16


# With ImageNet weights --------------------------------------------------------------------------


@pytest.mark.long
def test_real_features_keep_their_direction_and_the_labels_of_their_neighbours(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_nncf()
    monkeypatch.setattr(calibration, "MOST", 60)
    weights = shared_data / "weights" / "mobilenet_v2_imagenet_notop.weights.h5"
    exact = build_encoder("mobilenet_v2", str(weights))
    fruits = shared_data / "fruits"
    lowered = convert_encoder(exact, "int8", fruits / "Training")
    files = sorted((fruits / "Testing").glob("*/*.jpg"))[::8]
    spec = exact.preprocessing
    pixels = np.stack([resize_to(decode(p.read_bytes()), spec.height, spec.width) for p in files])
    features = features_of(lowered, pixels)
    assert cosines(features, features_of(exact, pixels)).mean() > 0.96
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    nearest = (unit @ unit.T - 2 * np.eye(len(unit))).argmax(axis=1)
    assert all(files[a].parent == files[b].parent for a, b in enumerate(nearest))
