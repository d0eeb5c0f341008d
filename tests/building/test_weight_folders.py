"""Folders with weights for PyTorch: what their files say, and what is refused without PyTorch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command_line import run
from pomona import extras
from pomona.building.file_digest import content_digest, network_files
from pomona.building.folders.kinds import read_folder
from pomona.building.folders.text_model import text_model
from pomona.building.network_files import build
from pomona.building.network_settings import NetworkSettings
from pomona.encoder.description import pipeline
from pomona.encoder.preprocessing import Preprocessing
from pomona.errors import EncoderError
from text_towers import FOLDERS as TEXTS

NO_SETTINGS = NetworkSettings()
RAW = Preprocessing(height=1, width=1, mean=(0.0,) * 3, std=(1.0,) * 3)
FILES: dict[str, dict[str, Any]] = {
    "hugging_face": {
        "config.json": {"model_type": "vit"},
        "preprocessor_config.json": {"image_processor_type": "ViTImageProcessor"},
        "model.safetensors": {},
    },
    "timm": {
        "config.json": {
            "architecture": "resnet18",
            "num_classes": 1000,
            "pretrained_cfg": {"tag": "a1_in1k", "crop_pct": 0.95, "first_conv": "conv1"},
        },
        "model.safetensors": {},
    },
    "open_clip": {
        "open_clip_config.json": {
            "model_cfg": {"embed_dim": 20, "vision_cfg": {"image_size": 256}, "text_cfg": {}},
            "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        },
        "open_clip_model.safetensors": {},
    },
}


def write(folder: Path, name: str, content: Any) -> None:
    (folder / name).write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[str], Path]:
    """A folder of one kind, whose weights are empty."""

    def make(kind: str) -> Path:
        path = tmp_path / kind
        path.mkdir()
        for name, content in FILES[kind].items():
            write(path, name, content)
        return path

    return make


def pixels(path: Path) -> str:
    return pipeline(read_folder(path).settings.preprocessing(RAW))


def test_missing_keys_of_timm_have_its_defaults(folder: Callable[[str], Path]) -> None:
    path = folder("timm")
    line = "resize shorter side to 235 (bicubic) -> centre crop 224 -> /255 -> ImageNet mean/std"
    assert pixels(path) == line
    write(path, "config.json", {"architecture": "resnet18", "crop_pct": 0.95})  # an old file
    assert pixels(path) == line


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"crop_pct": None}, "resize shorter side to 256 (bicubic) -> centre crop 224"),
        ({"crop_mode": "squash", "crop_pct": 1.0}, "resize to 224 (bicubic)"),
        ({"crop_mode": "squash", "crop_pct": 0.9}, "resize to 248 (bicubic) -> centre crop 224"),
        (
            {"crop_mode": "border", "mean": [0.1, 0.5, 0.9], "crop_pct": 1.0},
            "resize longer side to 224 (bicubic) -> centre crop or pad 224 (RGB 26, 128, 230)",
        ),
        (
            {"input_size": [3, 64, 48], "crop_pct": 0.8, "interpolation": "bilinear"},
            "resize to cover 80x60 (bilinear) -> centre crop 64x48",
        ),
    ],
)
def test_pixels_of_timm(folder: Callable[[str], Path], values: dict[str, Any], line: str) -> None:
    path = folder("timm")
    write(path, "config.json", {"architecture": "resnet18", "pretrained_cfg": values})
    assert pixels(path).startswith(line)


def test_missing_keys_of_open_clip_have_its_defaults(folder: Callable[[str], Path]) -> None:
    path = folder("open_clip")
    line = "resize shorter side to 256 (bicubic) -> centre crop 256"
    assert pixels(path) == f"{line} -> /127.5 - 1"
    config = FILES["open_clip"]["open_clip_config.json"]
    write(path, "open_clip_config.json", {"model_cfg": config["model_cfg"]})
    assert pixels(path) == f"{line} -> /255 -> CLIP mean/std"


def test_a_folder_of_two_libraries_is_read_as_open_clip(folder: Callable[[str], Path]) -> None:
    path = folder("open_clip")
    for name, content in FILES["timm"].items():
        write(path, name, content)
    assert read_folder(path).library == "open_clip"


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("timm", {"pretrained_cfg": {"gamma": 2}}, "has the key 'gamma', which may change pixels"),
        ("timm", {"pretrained_cfg": {"crop_mode": "five"}}, "crop_mode is 'five', expected center"),
        ("timm", {"pretrained_cfg": {"crop_pct": 2}}, "crop_pct is 2"),
        ("timm", {"pretrained_cfg": {"interpolation": "random"}}, "resize is 'random'"),
        ("timm", {"pretrained_cfg": {"input_size": [1, 9, 9]}}, "expected 3 channels"),
        ("timm", {"pretrained_cfg": {"input_size": 9}}, "config.json"),
        ("timm", {"pretrained_cfg": {"mean": [0.5]}}, "mean is"),
        ("timm", {"pretrained_cfg": 3}, "pretrained_cfg 3, expected a JSON object"),
        ("timm", {"model_args": {"img_size": 96}}, "96.* and input_size .*contradict each other"),
        ("timm", {"model_args": 3}, "config.json"),
        ("timm", {"architecture": "hf-hub:acme/net"}, "architecture 'hf-hub:acme/net', expected"),
        ("timm", {"architecture": None}, "architecture None, expected"),
        (
            "hugging_face",
            {"auto_map": {"AutoModel": "x.Y"}},
            "needs custom code .auto_map., .*ONNX",
        ),
        ("hugging_face", {"backbone": "resnet18"}, "names another network, whose weights are not"),
        ("hugging_face", {"quantization_config": {}}, "quantized weights"),
        ("open_clip", {"preprocess_cfg": {"size": 224}}, "224.* preprocess_cfg and .*contradict"),
        ("open_clip", {"preprocess_cfg": {"gamma": 2}}, "has the key 'gamma', which may change"),
        ("open_clip", {"preprocess_cfg": {"mean": [0.5]}}, "mean is"),
        ("open_clip", {"model_cfg": 3}, "has no open_clip_config.json with a model_cfg"),
        ("open_clip", {"model_cfg": {"vision_cfg": {}}}, "no vision_cfg or no text_cfg"),
        (
            "open_clip",
            {"model_cfg": {"vision_cfg": {"timm_model_name": "local-dir:/x"}, "text_cfg": {}}},
            "timm_model_name 'local-dir:/x', expected a network's name",
        ),
        (
            "open_clip",
            {"model_cfg": {"vision_cfg": {}, "text_cfg": {"hf_model_name": "acme/roberta"}}},
            "needs 'acme/roberta' of Hugging Face for texts, which is not in the folder",
        ),
    ],
)
def test_a_description_that_pomona_does_not_know_is_refused_by_name(
    folder: Callable[[str], Path], kind: str, change: dict[str, Any], message: str
) -> None:
    path = folder(kind)
    name = "open_clip_config.json" if kind == "open_clip" else "config.json"
    write(path, name, FILES[kind][name] | change)
    with pytest.raises(EncoderError, match=message) as refused:
        build(path, NO_SETTINGS)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", FILES)
def test_a_folder_without_weights_is_refused(folder: Callable[[str], Path], kind: str) -> None:
    path = folder(kind)
    for file in path.glob("*.safetensors"):
        file.unlink()
    with pytest.raises(EncoderError, match="has neither a graph nor weights: expected onnx/model"):
        build(path, NO_SETTINGS)


def test_weights_of_open_clip_without_their_description_are_refused(
    folder: Callable[[str], Path],
) -> None:
    path = folder("open_clip")
    (path / "open_clip_config.json").rename(path / "config.json")
    with pytest.raises(EncoderError, match="has no open_clip_config.json with a model_cfg"):
        build(path, NO_SETTINGS)


@pytest.mark.parametrize("kind", FILES)
def test_a_link_out_of_the_folder_is_refused(
    folder: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    for name in FILES[kind]:
        path = folder(kind)
        (path / name).rename(tmp_path / "elsewhere")
        (path / name).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(EncoderError, match="is a link out of its folder: refused"):
            build(path, NO_SETTINGS)
        path.rename(tmp_path / f"{kind} {name}")


def test_an_adapter_of_another_network_is_refused(folder: Callable[[str], Path]) -> None:
    path = folder("hugging_face")
    write(path, "adapter_config.json", {"base_model_name_or_path": "acme/vit"})
    with pytest.raises(EncoderError, match="adapter_config.json names another network"):
        build(path, NO_SETTINGS)


def test_a_huge_description_is_refused(folder: Callable[[str], Path]) -> None:
    path = folder("open_clip")
    write(path, "open_clip_config.json", {"model_cfg": "x" * 2**23})
    with pytest.raises(EncoderError, match="larger than"):
        build(path, NO_SETTINGS)


@pytest.mark.parametrize(
    "names",
    [None, {}, {"a": "model-00002-of-00002.safetensors"}, {"a": "../model-1-of-1.safetensors"}],
)
def test_a_list_of_other_weights_is_refused(folder: Callable[[str], Path], names: Any) -> None:
    path = folder("hugging_face")
    (path / "model.safetensors").rename(path / "model-00001-of-00002.safetensors")
    write(path, "model.safetensors.index.json", {"weight_map": names})
    with pytest.raises(EncoderError, match=r"index.json names .*copy the whole folder"):
        build(path, NO_SETTINGS)


def test_the_digest_is_that_of_the_description_and_all_weights(
    folder: Callable[[str], Path],
) -> None:
    path = folder("hugging_face")
    (path / "model.safetensors").rename(path / "model-00001-of-00002.safetensors")
    write(path, "model-00002-of-00002.safetensors", {})
    write(path, "model.safetensors.index.json", {})
    (path / "README.md").write_text("")
    read = {file.name for file in network_files(path)}
    assert read == {file.name for file in path.iterdir()} - {"README.md"}
    before = content_digest(path)
    write(path, "model-00002-of-00002.safetensors", 1)
    assert content_digest(path) != before


def test_what_open_clip_does_to_texts_is_known_or_refused(
    folder: Callable[[str], Path],
) -> None:
    path = folder("open_clip")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TEXTS / "immich" / "textual" / name, path)
    model = {"text_cfg": {"context_length": 16, "tokenizer_kwargs": {"clean": "canonicalize"}}}
    found = text_model(path, model)
    assert found is not None
    assert (found.context, found.cleaning, found.pad) == (16, "canonical", None)
    about = json.loads((path / "tokenizer_config.json").read_text())
    write(path, "tokenizer_config.json", about | {"tokenizer_class": "XLMRobertaTokenizer"})
    found = text_model(path, model)
    assert found is not None
    assert found.pad == "<|endoftext|>"
    write(path, "tokenizer_config.json", about)
    model["text_cfg"]["hf_tokenizer_name"] = "acme/siglip"
    found = text_model(path, model)
    assert found is not None
    assert found.pad == "<|endoftext|>"
    model["text_cfg"]["tokenizer_kwargs"] = {"strip_sep_token": True}
    with pytest.raises(EncoderError, match="tokenizer_kwargs 'strip_sep_token', .*not know"):
        text_model(path, model)


@pytest.mark.parametrize("kind", FILES)
def test_pickled_weights_need_trust(folder: Callable[[str], Path], kind: str) -> None:
    path = folder(kind)
    (weights,) = path.glob("*.safetensors")
    name = "open_clip_pytorch_model.bin" if kind == "open_clip" else "pytorch_model.bin"
    weights.rename(path / name)
    with pytest.raises(EncoderError, match=f"only pickled weights .{name}.*`trust`.*safetensors"):
        build(path, NO_SETTINGS)


@pytest.mark.parametrize("name", ["fruit.pt", "fruit.pt2"])
def test_files_of_pytorch_need_trust(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(EncoderError, match="contains pickles and code of PyTorch, .*`trust`.*ONNX"):
        build(tmp_path / name, NO_SETTINGS)


@pytest.mark.parametrize(
    ("kind", "library"),
    [("hugging_face", "transformers"), ("timm", "timm"), ("open_clip", "open_clip")],
)
def test_without_the_extra_the_error_names_both_ways(
    folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, kind: str, library: str
) -> None:
    monkeypatch.setattr(extras, "is_installed", lambda module: module != library)
    with pytest.raises(EncoderError, match=f"torch and {library}: .*install.*torch.*; or export"):
        build(folder(kind), NO_SETTINGS)


def test_the_command_line_refuses_in_one_line(
    folder: Callable[[str], Path], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = folder("timm")
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    code, _, err = run(capfd, "encoder", "build", path, "-o", tmp_path / "a.encoder")
    assert code == 2
    assert "has only pickled weights" in err.splitlines()[-1]
    assert "--trust" in err.splitlines()[-1]
