"""Folders of Hugging Face and Immich, with ONNX graphs, compared with transformers and open_clip.

tests/goldens/regenerate_folders.py wrote them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_line import run
from network_files import RUNTIMES
from noise import noise
from places import TESTS
from pomona.building.network_files import build
from pomona.building.network_settings import NetworkSettings
from pomona.encoder.description import pipeline
from pomona.encoder.encoder import Encoder
from pomona.errors import EncoderError

FOLDERS = TESTS / "goldens" / "folders"
FEATURES = np.load(FOLDERS / "features.npz")
NAMES = sorted(path.name for path in FOLDERS.iterdir() if path.is_dir())
NO_SETTINGS = NetworkSettings()


def embedded(encoder: Encoder) -> np.ndarray[Any, np.dtype[np.float32]]:
    return encoder.embed([noise(*size) for size in FEATURES["sizes"]])


def assert_same(encoder: Encoder, expected: Any) -> None:
    assert np.abs(embedded(encoder) - expected).max() < 1e-4


@RUNTIMES
@pytest.mark.parametrize("name", [name for name in NAMES if name in FEATURES])
def test_features_agree_with_the_authors_library(name: str, runtime: str) -> None:
    encoder = build(FOLDERS / name, NO_SETTINGS, runtime=runtime)
    assert encoder.runtime == runtime
    assert_same(encoder, FEATURES[name])


def test_each_family_is_tested() -> None:
    assert {
        *("clip", "clip_joint", "convnext", "deit", "dinov2", "dinov2_registers", "dinov3"),
        *("efficientnet", "immich", "resnet", "siglip", "swin", "vit"),
    } <= set(FEATURES.files)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "dinov2",
            "resize shorter side to 64 (bicubic) -> centre crop 56 (rounded down) -> /255 -> CLIP "
            "mean/std",
        ),
        ("dinov3", "resize to 48 (bilinear, not rounded) -> /255 -> ImageNet mean/std"),
        ("siglip", "resize to 48 (bicubic) -> /127.5 - 1"),
        (
            "immich",
            "resize shorter side to 48 (bicubic) -> centre crop 48 -> /255 -> CLIP mean/std",
        ),
    ],
)
def test_the_preprocessing_is_that_of_the_folder(name: str, line: str) -> None:
    assert pipeline(build(FOLDERS / name, NO_SETTINGS).preprocessing) == line


@RUNTIMES
def test_registers_and_the_class_token_are_not_part_of_the_mean(runtime: str) -> None:
    settings = NetworkSettings(pool="mean")
    encoder = build(FOLDERS / "dinov2_registers", settings, runtime=runtime)
    assert_same(encoder, FEATURES["dinov2_registers, mean"])
    assert "mean of the tokens after the first 5" in encoder.architecture


def test_settings_of_the_caller_replace_those_of_the_folder() -> None:
    encoder = build(FOLDERS / "vit", NetworkSettings(resize="box", resize_mode="longest"))
    assert encoder.preprocessing.resize == "box"
    assert encoder.preprocessing.resize_mode == "longest"
    assert encoder.fingerprint != build(FOLDERS / "vit", NO_SETTINGS).fingerprint


@RUNTIMES
def test_clip_without_its_projection_is_refused_unless_the_layer_is_named(runtime: str) -> None:
    folder = FOLDERS / "clip_unprojected"
    with pytest.raises(EncoderError, match=r"ends before CLIP's projection, .*`layer`"):
        build(folder, NO_SETTINGS, runtime=runtime)
    named = NetworkSettings(layer="pooler_output")
    assert build(folder, named, runtime=runtime).dimension == 24


@RUNTIMES
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (NetworkSettings(signature="x"), "`signature` x is for TensorFlow SavedModels"),
        (
            NetworkSettings(pool="mean", prefix_tokens=21),
            "`prefix_tokens` 21 leaves no token of 21: give the number",
        ),
        (NetworkSettings(layer="nothing"), "has no layer 'nothing'"),
        (NetworkSettings(size=40), "cannot take one image of 40x40"),
    ],
)
def test_settings_that_do_not_fit_a_folder_are_refused(
    settings: NetworkSettings, message: str, runtime: str
) -> None:
    with pytest.raises(EncoderError, match=message):
        build(FOLDERS / "dinov2_registers", settings, runtime=runtime)


@RUNTIMES
def test_an_output_that_needs_text_is_refused(runtime: str) -> None:
    with pytest.raises(EncoderError, match="from more than the image: choose another .*`layer`"):
        build(FOLDERS / "clip_joint", NetworkSettings(layer="text_embeds"), runtime=runtime)


@RUNTIMES
def test_vectors_of_a_folder_can_have_length_1(runtime: str) -> None:
    settings = NetworkSettings(normalize=True)
    expected = FEATURES["clip"] / np.linalg.norm(FEATURES["clip"], axis=1, keepdims=True)
    assert_same(build(FOLDERS / "clip", settings, runtime=runtime), expected)


@pytest.mark.parametrize("name", ["vit", "clip_joint", "efficientnet", "dinov2_registers"])
def test_the_two_runtimes_differ_only_in_how_they_compute(name: str) -> None:
    settings = NetworkSettings(pool="mean")
    one = build(FOLDERS / name, settings)
    other = build(FOLDERS / name, settings, runtime="onnxruntime")
    assert one.fingerprint != other.fingerprint
    for field in ("architecture", "weights_sha256", "preprocessing", "output", "dimension"):
        assert getattr(one, field) == getattr(other, field)


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """A copy of a folder, in whose processor some values differ."""

    def copy(name: str, drop: tuple[str, ...] = (), **values: Any) -> Path:
        shutil.copytree(FOLDERS / name, tmp_path / name)
        file = tmp_path / name / "preprocessor_config.json"
        data = json.loads(file.read_text()) | values
        file.write_text(json.dumps({k: v for k, v in data.items() if k not in drop}))
        return tmp_path / name

    return copy


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"blur_radius": 3}, "has the key 'blur_radius', which may change pixels"),
        ({"image_processor_type": "Flava"}, "is for Flava, expected one of BitImageProcessor"),
        ({"auto_map": {"AutoImageProcessor": "x.Y"}}, "needs custom code"),
        ({"do_resize": False}, "not fixed"),
        ({"do_pad": True}, "not fixed"),
        ({"do_center_crop": False}, "do_center_crop is false"),
        ({"size": {"longest_edge": 9}}, "size is"),
        ({"size": "big"}, "preprocessor_config.json"),
        ({"resample": 9}, "preprocessor_config.json"),
        ({"image_mean": [0.5]}, "mean is"),
        ({"rescale_factor": 0}, "scale is 0"),
    ],
)
def test_a_processor_that_pomona_does_not_know_is_refused_by_name(
    folder: Callable[..., Path], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(EncoderError, match=message):
        build(folder("dinov2", **values), NO_SETTINGS)


def test_missing_keys_have_the_defaults_of_the_class(folder: Callable[..., Path]) -> None:
    drop = ("resample", "image_mean", "image_std", "do_center_crop", "do_rescale", "rescale_factor")
    encoder = build(folder("dinov2", drop), NO_SETTINGS)
    assert encoder.preprocessing == build(FOLDERS / "dinov2", NO_SETTINGS).preprocessing


def test_names_of_fast_and_of_old_processors_are_known(folder: Callable[..., Path]) -> None:
    plain = build(FOLDERS / "vit", NO_SETTINGS).fingerprint
    path = folder("vit", image_processor_type="ViTImageProcessorFast")
    assert (
        build(path, NO_SETTINGS).preprocessing == build(FOLDERS / "vit", NO_SETTINGS).preprocessing
    )
    shutil.rmtree(path)
    path = folder("vit", ("image_processor_type",), feature_extractor_type="ViTFeatureExtractor")
    assert (
        build(path, NO_SETTINGS).preprocessing == build(FOLDERS / "vit", NO_SETTINGS).preprocessing
    )
    assert build(path, NO_SETTINGS).fingerprint != plain  # its files differ


def test_the_processor_of_transformers_5_is_read(folder: Callable[..., Path]) -> None:
    path = folder("siglip")
    file = path / "preprocessor_config.json"
    (path / "processor_config.json").write_text(
        json.dumps({"image_processor": json.loads(file.read_text())})
    )
    file.unlink()
    assert_same(build(path, NO_SETTINGS), FEATURES["siglip"])


@RUNTIMES
def test_tokens_of_an_unknown_family_need_a_pool(folder: Callable[..., Path], runtime: str) -> None:
    path = folder("vit")
    config = path / "config.json"
    config.write_text(config.read_text().replace('"vit"', '"other"'))
    with pytest.raises(EncoderError, match="ends in tokens .*give `pool` cls or mean"):
        build(path, NO_SETTINGS, runtime=runtime)
    assert_same(build(path, NetworkSettings(pool="cls"), runtime=runtime), FEATURES["vit"])


def test_a_folder_of_timm_can_have_a_graph(folder: Callable[..., Path]) -> None:
    path = folder("convnext")
    pixels = {"input_size": [3, 64, 64], "crop_pct": 0.875}
    config = {"architecture": "convnext_atto", "pretrained_cfg": pixels}
    (path / "config.json").write_text(json.dumps(config))
    (path / "model.safetensors").write_bytes(b"")  # not read
    encoder = build(path, NO_SETTINGS)
    assert (encoder.architecture, encoder.output) == ("timm convnext_atto", "pooler_output")
    line = "resize shorter side to 73 (bicubic) -> centre crop 64 -> /255 -> ImageNet mean/std"
    assert pipeline(encoder.preprocessing) == line


@RUNTIMES
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: (path / "config.json").write_text("[1]"), "contains list, expected"),
        (lambda path: (path / "config.json").write_text("{"), "is not valid JSON"),
        (lambda path: (path / "config.json").write_text('{"a": 1}'), "has no model_type"),
        (lambda path: (path / "config.json").write_text('{"x": "%s"}' % ("y" * 2**23)), "larger"),
        (lambda path: (path / "preprocessor_config.json").unlink(), "has neither preprocessor_con"),
        (
            lambda path: (path / "onnx" / "model.onnx").unlink(),
            "has neither a graph nor weights: expected onnx/",
        ),
        (lambda path: (path / "onnx" / "model.onnx").write_bytes(b"x" * 99), "model.onnx"),
    ],
)
def test_an_incomplete_or_hostile_folder_is_refused(
    folder: Callable[..., Path], change: Callable[[Path], Any], message: str, runtime: str
) -> None:
    path = folder("vit")
    change(path)
    with pytest.raises(EncoderError, match=message):
        build(path, NO_SETTINGS, runtime=runtime)


@RUNTIMES
def test_class_scores_are_refused(folder: Callable[..., Path], runtime: str) -> None:
    onnx = pytest.importorskip("onnx", reason="the extra onnx is missing")
    path = folder("vit")
    model = onnx.load(path / "onnx" / "model.onnx")
    (before,) = (output.name for output in model.graph.output)
    for node in model.graph.node:
        node.output[:] = ["logits" if name == before else name for name in node.output]
    model.graph.output[0].name = "logits"
    onnx.save(model, path / "onnx" / "model.onnx")
    with pytest.raises(EncoderError, match="ends in class scores .*feature-extraction"):
        build(path, NO_SETTINGS, runtime=runtime)


@pytest.mark.parametrize("name", ["resnet", "dinov2_registers"])
def test_a_mean_is_the_same_since_opset_18(folder: Callable[..., Path], name: str) -> None:
    onnx = pytest.importorskip("onnx", reason="the extra onnx is missing")
    path = folder(name)
    file = path / "onnx" / "model.onnx"
    onnx.save(onnx.version_converter.convert_version(onnx.load(file), 18), file)
    encoder = build(path, NetworkSettings(pool="mean"), runtime="onnxruntime")
    assert_same(encoder, FEATURES[name if name == "resnet" else f"{name}, mean"])


@RUNTIMES
@pytest.mark.parametrize("name", ["clip_joint", "siglip", "resnet", "dinov2_registers"])
def test_sides_that_a_graph_leaves_open_come_from_its_processor(
    folder: Callable[..., Path], name: str, runtime: str
) -> None:
    """As in the exports of optimum."""
    onnx = pytest.importorskip("onnx", reason="the extra onnx is missing")
    path = folder(name)
    file = path / "onnx" / "model.onnx"
    model = onnx.load(file)
    (image,) = (each for each in model.graph.input if each.name == "pixel_values")
    names = ("batch_size", "num_channels", "height", "width")
    for side, text in zip(image.type.tensor_type.shape.dim, names, strict=True):
        side.dim_param = text
    onnx.save(model, file)
    assert_same(build(path, NO_SETTINGS, runtime=runtime), FEATURES[name])


def arrays_apart(file: Path) -> Path:
    """Move the arrays of an ONNX file into a file beside it, as exporters do with large ones."""
    onnx = pytest.importorskip("onnx", reason="the extra onnx is missing")
    data = file.with_name(f"{file.name}_data")
    model = onnx.load(file)
    onnx.save(model, file, save_as_external_data=True, location=data.name, size_threshold=0)
    return data


@RUNTIMES
def test_arrays_in_a_file_of_their_own_are_read(folder: Callable[..., Path], runtime: str) -> None:
    path = folder("clip_joint")
    data = arrays_apart(path / "onnx" / "model.onnx")
    assert_same(build(path, NO_SETTINGS, runtime=runtime), FEATURES["clip_joint"])
    data.unlink()
    with pytest.raises(EncoderError, match="cannot read .*model.onnx"):
        build(path, NO_SETTINGS, runtime=runtime)


@RUNTIMES
def test_arrays_in_a_link_out_of_the_folder_are_refused(
    folder: Callable[..., Path], tmp_path: Path, runtime: str
) -> None:
    path = folder("vit")
    data = arrays_apart(path / "onnx" / "model.onnx")
    data.rename(tmp_path / "elsewhere")
    data.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EncoderError, match="elsewhere, outside its own folder: refused"):
        build(path, NO_SETTINGS, runtime=runtime)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "onnx/model.onnx"])
def test_a_link_out_of_the_folder_is_refused(
    folder: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    path = folder("vit")
    (path / name).rename(tmp_path / "elsewhere")
    (path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EncoderError, match="is a link out of its folder: refused"):
        build(path, NO_SETTINGS)


@RUNTIMES
def test_the_cache_of_hugging_face_is_read_although_its_files_are_links(
    tmp_path: Path, runtime: str
) -> None:
    repository = tmp_path / "models--acme--vit"
    snapshot = repository / "snapshots" / "0123"
    shutil.copytree(FOLDERS / "vit", snapshot)
    arrays_apart(snapshot / "onnx" / "model.onnx")
    (repository / "blobs").mkdir()
    files = [path for path in snapshot.rglob("*") if path.is_file()]
    for number, file in enumerate(files):
        file.rename(repository / "blobs" / str(number))
        file.symlink_to(repository / "blobs" / str(number))
    assert_same(build(snapshot, NO_SETTINGS, runtime=runtime), FEATURES["vit"])
    graph = Path("onnx", "model.onnx")
    settings = NetworkSettings(resize_mode="squash", mean=127.5, std=127.5, pool="cls")
    from_cache = build(snapshot / graph, settings, runtime=runtime)
    assert_same(from_cache, embedded(build(FOLDERS / "vit" / graph, settings)))


@RUNTIMES
def test_a_file_that_ends_in_tokens_needs_a_pool(tmp_path: Path, runtime: str) -> None:
    shutil.copy(FOLDERS / "dinov2_registers" / "onnx" / "model.onnx", tmp_path / "dinov2.onnx")
    folder = build(FOLDERS / "dinov2_registers", NO_SETTINGS).preprocessing
    settings = NetworkSettings(
        resize_size=folder.resize_size, centring="floor", mean=folder.mean, std=folder.std
    )
    with pytest.raises(EncoderError, match=r"output of shape \(1, 21, 24\).*`pool`"):
        build(tmp_path / "dinov2.onnx", settings, runtime=runtime)
    chosen = replace(settings, pool="mean", prefix_tokens=5)
    encoder = build(tmp_path / "dinov2.onnx", chosen, runtime=runtime)
    assert_same(encoder, FEATURES["dinov2_registers, mean"])


@RUNTIMES
def test_the_command_line_builds_a_folder(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, runtime: str
) -> None:
    file = tmp_path / "dinov2.encoder"
    options = ("--pool", "mean", "--runtime", runtime, "-o", file)
    code, out, err = run(capfd, "encoder", "build", FOLDERS / "dinov2_registers", *options)
    assert (code, "resize shorter side to 64" in out) == (0, True), err
    assert Encoder.load(file).runtime == runtime
    assert_same(Encoder.load(file), FEATURES["dinov2_registers, mean"])


def test_the_command_line_describes_a_folder_and_refuses_one_in_its_own_terms(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, err = run(capfd, "models", FOLDERS / "dinov2")
    assert (code, "last_hidden_state" in out) == (0, True), err
    code, _, err = run(
        capfd, "encoder", "build", FOLDERS / "clip_unprojected", "-o", tmp_path / "x"
    )
    assert code == 2
    assert "choose this output with --layer" in err.splitlines()[-1]
