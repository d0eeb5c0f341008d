"""Networks with weights for PyTorch, compared with the libraries that made them: make test-torch.

The tests make the folders themselves, with random weights.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pomona
from command_line import run
from noise import noise
from pomona.building.network_files import build
from pomona.building.network_settings import NetworkSettings
from pomona.encoder.description import pipeline
from pomona.encoder.encoder import Encoder
from pomona.errors import EncoderError
from text_towers import ANSWERS, FOLDERS

torch = pytest.importorskip("torch", reason="the extra torch is missing")
timm = pytest.importorskip("timm", reason="the extra torch is missing")
open_clip = pytest.importorskip("open_clip", reason="the extra torch is missing")
transformers = pytest.importorskip("transformers", reason="the extra torch is missing")

pytestmark = [
    # torch.jit, which OpenVINO's converter uses, is deprecated.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]

SIZES = ((97, 61), (61, 97), (201, 149), (40, 31))
IMAGES = [noise(*size) for size in SIZES]
NO_SETTINGS = NetworkSettings()
VIT = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
CLIP_TEXT = {**VIT, "vocab_size": 60, "max_position_embeddings": 12, "eos_token_id": 2}


def assert_same(encoder: Encoder, expected: Any) -> None:
    vectors = encoder.embed(IMAGES)
    assert vectors.shape == expected.shape
    assert np.abs(vectors - expected.numpy()).max() < 1e-4
    assert np.abs(expected.numpy()).max() > 1e-2


def seeded(network: Any) -> Any:
    """Draw the weights: those that libraries draw can give vectors of almost zeros."""
    torch.manual_seed(7)
    with torch.no_grad():
        for weight in network.parameters():
            fan_in = weight[0].numel() if weight.dim() > 1 else 25
            weight.normal_(std=fan_in**-0.5)
        for name, weight in network.named_parameters():
            if "norm" in name and name.endswith("weight"):
                weight.add_(1)
    return network.eval()


# Hugging Face


def processor(kind: str, **config: Any) -> Any:
    return getattr(transformers, f"{kind}ImageProcessorPil")(**config)


def vit_like(kind: str, **config: Any) -> Any:
    settings = getattr(transformers, f"{kind}Config")(**VIT, **config)
    return getattr(transformers, f"{kind}Model")(settings)


BIT = ("Bit", {"size": {"shortest_edge": 64}, "crop_size": 56})
SQUASH = {"size": {"height": 48, "width": 48}}
PATCHES = {"image_size": 48, "patch_size": 16}

POOLED: dict[str, tuple[Callable[[], Any], tuple[str, dict[str, Any]]]] = {
    # Their position embeddings are of another size than the images, as in the published files.
    "dinov2": (lambda: vit_like("Dinov2", image_size=126, patch_size=14), BIT),
    "dinov2_registers": (
        lambda: vit_like("Dinov2WithRegisters", image_size=126, patch_size=14),
        BIT,
    ),
    "siglip_vision": (lambda: vit_like("SiglipVision", **PATCHES), ("Siglip", SQUASH)),
    "convnext": (
        lambda: transformers.ConvNextModel(
            transformers.ConvNextConfig(hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1])
        ),
        ("ConvNext", {"size": {"shortest_edge": 64}, "crop_pct": 0.875}),
    ),
    "resnet": (
        lambda: transformers.ResNetModel(
            transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1])
        ),
        ("ConvNext", {"size": {"shortest_edge": 64}, "crop_pct": 0.875}),
    ),
    "swin": (
        lambda: transformers.SwinModel(
            transformers.SwinConfig(
                image_size=64, embed_dim=8, depths=[1, 2], num_heads=[2, 2], window_size=4
            )
        ),
        ("ViT", {"size": {"height": 64, "width": 64}}),
    ),
    "efficientnet": (
        lambda: transformers.EfficientNetModel(
            transformers.EfficientNetConfig(
                image_size=64, width_coefficient=0.2, depth_coefficient=0.1, hidden_dim=256
            )
        ),
        ("EfficientNet", {"size": {"height": 64, "width": 64}, "resample": 3}),
    ),
}


def saved(network: Any, prepare: Any, folder: Path, **options: Any) -> Any:
    """Write a folder of Hugging Face, and return the pixels of the images."""
    network.save_pretrained(folder, **options)
    prepare.save_pretrained(folder)
    return prepare(IMAGES, return_tensors="pt")["pixel_values"]


@pytest.mark.parametrize("name", POOLED)
def test_pooled_features_of_hugging_face(name: str, tmp_path: Path) -> None:
    make, (kind, config) = POOLED[name]
    network = seeded(make())
    pixels = saved(network, processor(kind, **config), tmp_path)
    with torch.no_grad():
        expected = network(pixels).pooler_output.flatten(1)
    encoder = build(tmp_path, NO_SETTINGS)
    assert_same(encoder, expected)
    assert encoder.output == ("last_hidden_state" if name == "efficientnet" else "pooler_output")


def test_features_of_dinov3(tmp_path: Path) -> None:
    network = seeded(vit_like("DINOv3ViT", **PATCHES, num_register_tokens=4))
    prepare = transformers.DINOv3ViTImageProcessor(size={"height": 48, "width": 48})
    pixels = saved(network, prepare, tmp_path)
    with torch.no_grad():
        assert_same(build(tmp_path, NO_SETTINGS), network(pixels).pooler_output)


@pytest.mark.parametrize("kind", ["ViT", "DeiT"])
def test_the_class_token_of_a_network_without_a_trained_pooler(kind: str, tmp_path: Path) -> None:
    network = seeded(vit_like(kind, **PATCHES))  # with a pooler, which is not used
    pixels = saved(network, processor("ViT", **SQUASH), tmp_path)
    with torch.no_grad():
        tokens = network(pixels).last_hidden_state
    encoder = build(tmp_path, NO_SETTINGS)
    assert_same(encoder, tokens[:, 0])
    assert encoder.output == "last_hidden_state"
    prefix = 1 if kind == "ViT" else 2
    settings = NetworkSettings(pool="mean", prefix_tokens=prefix)
    assert_same(build(tmp_path, settings), tokens[:, prefix:].mean(1))


def test_weights_of_a_classifier_are_read_without_it(tmp_path: Path) -> None:
    network = seeded(
        transformers.ViTForImageClassification(transformers.ViTConfig(**VIT, **PATCHES))
    )
    pixels = saved(network, processor("ViT", **SQUASH), tmp_path)
    with torch.no_grad():
        assert_same(build(tmp_path, NO_SETTINGS), network.vit(pixels).last_hidden_state[:, 0])


def test_registers_and_the_class_token_are_not_part_of_the_mean(tmp_path: Path) -> None:
    network = seeded(vit_like("Dinov2WithRegisters", image_size=126, patch_size=14))
    pixels = saved(network, processor(BIT[0], **BIT[1]), tmp_path)
    with torch.no_grad():
        expected = network(pixels).last_hidden_state[:, 5:].mean(1)
    assert_same(build(tmp_path, NetworkSettings(pool="mean")), expected)


def clip(kind: str = "CLIP") -> Any:
    config = {"vision_config": {**VIT, **PATCHES}, "text_config": CLIP_TEXT}
    if kind == "CLIP":
        config["projection_dim"] = 20
    return seeded(
        getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**config))
    )


def image_features(network: Any, pixels: Any) -> Any:
    with torch.no_grad():
        features = network.get_image_features(pixel_values=pixels)
    return getattr(features, "pooler_output", features)


CLIP_PIXELS = {"size": {"shortest_edge": 48}, "crop_size": 48}


def test_projected_features_of_clip(tmp_path: Path) -> None:
    network = clip()
    pixels = saved(network, processor("CLIP", **CLIP_PIXELS), tmp_path)
    encoder = build(tmp_path, NO_SETTINGS)
    assert_same(encoder, image_features(network, pixels))
    assert (encoder.output, encoder.dimension) == ("image_embeds", 20)


def test_features_of_siglip_with_its_text_tower(tmp_path: Path) -> None:
    network = clip("Siglip")  # SigLIP 2 of fixed size has the same model_type
    pixels = saved(network, processor("Siglip", **SQUASH), tmp_path)
    assert_same(build(tmp_path, NO_SETTINGS), image_features(network, pixels))


def test_the_vision_part_of_clip_with_its_projection(tmp_path: Path) -> None:
    config = transformers.CLIPVisionConfig(**VIT, **PATCHES, projection_dim=20)
    network = seeded(transformers.CLIPVisionModelWithProjection(config))
    pixels = saved(network, processor("CLIP", **CLIP_PIXELS), tmp_path)
    with torch.no_grad():
        assert_same(build(tmp_path, NO_SETTINGS), network(pixels).image_embeds)


def test_clip_without_its_projection_is_refused_unless_the_layer_is_named(tmp_path: Path) -> None:
    network = seeded(transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**VIT, **PATCHES)))
    pixels = saved(network, processor("CLIP", **CLIP_PIXELS), tmp_path)
    with pytest.raises(EncoderError, match="ends before CLIP's projection"):
        build(tmp_path, NO_SETTINGS)
    with torch.no_grad():
        expected = network(pixels).pooler_output
    assert_same(build(tmp_path, NetworkSettings(layer="pooler_output")), expected)


@pytest.fixture
def vit(tmp_path: Path) -> tuple[Any, Any, Path]:
    """A network, pixels of the images, and its folder."""
    network = seeded(vit_like("ViT", **PATCHES))
    return network, saved(network, processor("ViT", **SQUASH), tmp_path / "vit"), tmp_path / "vit"


def class_token(network: Any, pixels: Any) -> Any:
    with torch.no_grad():
        return network(pixels).last_hidden_state[:, 0]


def test_weights_in_several_files(vit: tuple[Any, Any, Path]) -> None:
    network, pixels, folder = vit
    (folder / "model.safetensors").unlink()
    network.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    assert_same(build(folder, NO_SETTINGS), class_token(network, pixels))


def test_weights_in_the_cache_of_hugging_face_are_read_although_they_are_links(
    vit: tuple[Any, Any, Path], tmp_path: Path
) -> None:
    network, pixels, folder = vit
    repository = tmp_path / "models--acme--vit"
    (repository / "blobs").mkdir(parents=True)
    snapshot = repository / "snapshots" / "0123"
    folder.rename(snapshot.parent.with_name("vit"))
    snapshot.mkdir(parents=True)
    for number, file in enumerate((repository / "vit").iterdir()):
        file.rename(repository / "blobs" / str(number))
        (snapshot / file.name).symlink_to(repository / "blobs" / str(number))
    assert_same(build(snapshot, NO_SETTINGS), class_token(network, pixels))


def test_half_precision_weights_compute_in_single_precision(vit: tuple[Any, Any, Path]) -> None:
    network, pixels, folder = vit
    network.half().save_pretrained(folder)
    expected = class_token(network.float(), pixels)
    assert_same(build(folder, NO_SETTINGS), expected)


def test_pickled_weights_are_read_if_they_are_trusted(vit: tuple[Any, Any, Path]) -> None:
    network, pixels, folder = vit
    (folder / "model.safetensors").unlink()
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    assert_same(build(folder, NO_SETTINGS, trust=True), class_token(network, pixels))


class Code:
    def __reduce__(self) -> Any:
        return os.mkdir, ("code-ran",)


def test_code_in_trusted_pickled_weights_does_not_run(
    vit: tuple[Any, Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, folder = vit
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Code()}, folder / "pytorch_model.bin")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EncoderError, match="transformers .* cannot load"):
        build(folder, NO_SETTINGS, trust=True)
    assert not (tmp_path / "code-ran").exists()


def test_missing_weights_are_not_drawn_at_random(vit: tuple[Any, Any, Path]) -> None:
    from safetensors.torch import load_file, save_file

    _, _, folder = vit
    state = load_file(folder / "model.safetensors")
    gone = "embeddings.cls_token"
    save_file({k: v for k, v in state.items() if k != gone}, folder / "model.safetensors")
    with pytest.raises(EncoderError, match=rf"lacks weights .*{gone}"):
        build(folder, NO_SETTINGS)


def test_cut_weights_are_refused(vit: tuple[Any, Any, Path]) -> None:
    _, _, folder = vit
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-99])
    with pytest.raises(EncoderError, match="transformers .* cannot load .*"):
        build(folder, NO_SETTINGS)


def test_a_size_that_the_network_does_not_take_is_refused(vit: tuple[Any, Any, Path]) -> None:
    _, _, folder = vit
    with pytest.raises(EncoderError, match="cannot take an input of 1x3x64x64: .*48"):
        build(folder, NetworkSettings(size=64))


def test_a_network_that_transformers_does_not_know_is_refused(vit: tuple[Any, Any, Path]) -> None:
    _, _, folder = vit
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"vit"', '"acme"'))
    with pytest.raises(EncoderError, match="transformers .* cannot load .*acme"):
        build(folder, NO_SETTINGS)


def test_two_processes_build_the_same_graph(vit: tuple[Any, Any, Path], tmp_path: Path) -> None:
    _, _, folder = vit
    for name in ("a.encoder", "b.encoder"):
        code = (
            "import sys; from pathlib import Path\n"
            "from pomona.building.network_files import build\n"
            "from pomona.building.network_settings import NetworkSettings\n"
            "build(Path(sys.argv[1]), NetworkSettings()).save(sys.argv[2])\n"
        )
        subprocess.run([sys.executable, "-c", code, folder, tmp_path / name], check=True)
    first, second = (Encoder.load(tmp_path / name) for name in ("a.encoder", "b.encoder"))
    assert first.fingerprint == second.fingerprint
    assert (first.graph, first.constants) == (second.graph, second.constants)


def test_the_command_line_builds_without_a_connection(
    vit: tuple[Any, Any, Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, pixels, folder = vit
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "def refuse(event, arguments):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo'):\n"
        "        os.write(2, b'a connection\\n'); os._exit(9)\n"
        "sys.addaudithook(refuse)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    file = tmp_path / "vit.encoder"
    code, out, err = run(capfd, "encoder", "build", folder, "-o", file)
    assert (code, "resize to 48 (bilinear)" in out) == (0, True), err
    assert_same(Encoder.load(file), class_token(network, pixels))
    code, out, err = run(capfd, "models", folder)
    assert (code, "last_hidden_state" in out) == (0, True), err


# timm


TIMM = {
    "vit_tiny_patch16_224": {"img_size": 48, "depth": 2},
    "vit_small_patch14_reg4_dinov2": {"img_size": 56, "depth": 2, "embed_dim": 48, "num_heads": 2},
    "vit_base_patch16_siglip_224": {"img_size": 48, "depth": 2, "embed_dim": 48, "num_heads": 2},
    "vit_small_patch16_dinov3": {"img_size": 48, "depth": 2, "embed_dim": 48, "num_heads": 2},
    "convnext_atto": {"depths": (1, 1, 1, 1), "dims": (8, 12, 16, 20)},
    "efficientnet_b0": {},
    "resnet18": {"channels": (8, 8, 16, 16)},
    "fastvit_mci0": {"layers": (1, 1, 1, 1)},  # of MobileCLIP
    "swin_tiny_patch4_window7_224": {
        "img_size": 56,
        "embed_dim": 8,
        "depths": (1, 2),
        "num_heads": (2, 2),
    },
}


def timm_folder(folder: Path, name: str, pixels: dict[str, Any], **options: Any) -> Any:
    """Write a folder of timm, and return its network and its preprocessing."""
    network = seeded(timm.create_model(name, pretrained=False, **options))
    size = options.get("img_size", 64)
    pixels = {"input_size": (3, size, size), **pixels}
    folder.mkdir(exist_ok=True)
    timm.models.save_for_hf(
        network,
        folder,
        model_config={"pretrained_cfg": pixels},
        model_args=options,
        safe_serialization=True,
    )
    config = json.loads((folder / "config.json").read_text())["pretrained_cfg"]
    transform = timm.data.create_transform(
        **timm.data.resolve_data_config({}, pretrained_cfg=config)
    )
    network.reset_classifier(0)
    return network, torch.stack([transform(image) for image in IMAGES])


@pytest.mark.parametrize("name", TIMM)
def test_features_of_timm(name: str, tmp_path: Path) -> None:
    network, pixels = timm_folder(tmp_path, name, {}, **TIMM[name])
    encoder = build(tmp_path, NO_SETTINGS)
    with torch.no_grad():
        assert_same(encoder, network(pixels))
    assert encoder.architecture == f"timm {name}"


@pytest.mark.parametrize(
    "pixels",
    [
        {"crop_mode": "center", "crop_pct": 0.95, "interpolation": "bilinear"},
        {"crop_mode": "squash", "crop_pct": 0.9, "mean": (0.5,) * 3, "std": (0.5,) * 3},
        {"crop_mode": "border", "crop_pct": 1.0},
        {"crop_mode": "border", "crop_pct": 0.9, "mean": (0.4, 0.3, 0.2)},
        {"crop_mode": "center", "crop_pct": 0.875, "input_size": (3, 64, 48)},
    ],
    ids=str,
)
def test_pixels_of_timm(pixels: dict[str, Any], tmp_path: Path) -> None:
    network, prepared = timm_folder(tmp_path, "resnet18", pixels, **TIMM["resnet18"])
    with torch.no_grad():
        assert_same(build(tmp_path, NO_SETTINGS), network(prepared))


def test_tokens_of_timm_can_be_pooled(tmp_path: Path) -> None:
    name = "vit_small_patch14_reg4_dinov2"
    network, pixels = timm_folder(tmp_path, name, {}, **TIMM[name])
    with torch.no_grad():
        tokens = network.forward_features(pixels)
    assert network.num_prefix_tokens == 5
    assert_same(build(tmp_path, NetworkSettings(pool="mean")), tokens[:, 5:].mean(1))
    assert_same(build(tmp_path, NetworkSettings(pool="cls")), tokens[:, 0])


def test_a_map_of_timm_cannot_be_pooled(tmp_path: Path) -> None:
    timm_folder(tmp_path, "resnet18", {}, **TIMM["resnet18"])
    with pytest.raises(EncoderError, match="`pool` has no effect on resnet18"):
        build(tmp_path, NetworkSettings(pool="mean"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "acme_net"}, "timm .* cannot load .*acme_net"),
        ({"architecture": "resnet34"}, "does not fit resnet34 of timm .*: it lacks"),
        ({"model_args": {"checkpoint_path": "/x"}}, "model_args checkpoint_path, .*: refused"),
        ({"model_args": {"pretrained": True}}, "model_args pretrained, .*: refused"),
        ({"model_args": {"features_only": True}}, "has 5 outputs, expected one vector"),
        ({"model_args": {"acme": 1}}, "timm .* cannot load .*acme"),
    ],
)
def test_a_hostile_folder_of_timm_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    timm_folder(tmp_path, "resnet18", {})
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(EncoderError, match=message):
        build(tmp_path, NO_SETTINGS)


# OpenCLIP

SMALL_TEXT = {"context_length": 12, "vocab_size": 60, "width": 24, "heads": 2, "layers": 1}
VISION = {"layers": 1, "width": 48, "image_size": 48, "patch_size": 16, "head_width": 24}
OPEN_CLIP = {
    "clip": ({"vision_cfg": VISION}, {}),
    "quick_gelu": ({"vision_cfg": VISION, "quick_gelu": True}, {}),
    "squashed": (
        {
            "vision_cfg": {
                "image_size": 224,
                "timm_model_name": "vit_tiny_patch16_224",
                "timm_pool": "token",
                "timm_proj": "linear",
            },
            "custom_text": True,
        },
        {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"},
    ),
    "mobileclip": (
        {
            "vision_cfg": {
                "image_size": 64,
                "timm_model_name": "fastvit_mci0",
                "timm_pool": "avg",
                "timm_proj": None,
            },
            "embed_dim": 512,
            "custom_text": True,
        },
        {
            "mean": [0.0] * 3,
            "std": [1.0] * 3,
            "interpolation": "bilinear",
            "resize_mode": "shortest",
        },
    ),
}


def open_clip_folder(
    folder: Path, model: dict[str, Any], pixels: dict[str, Any]
) -> tuple[Any, Any]:
    """Write a folder of OpenCLIP, and return its network and the pixels of the images."""
    model = {"embed_dim": 20, "text_cfg": SMALL_TEXT, **model}
    folder.mkdir(exist_ok=True)
    config = {"model_cfg": model, "preprocess_cfg": pixels}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    network = seeded(open_clip.create_model(f"local-dir:{folder}", load_weights=False))
    from safetensors.torch import save_file

    save_file(network.state_dict(), folder / "open_clip_model.safetensors")
    _, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    return network, torch.stack([transform(image) for image in IMAGES])


@pytest.mark.parametrize("name", OPEN_CLIP)
def test_features_of_open_clip(name: str, tmp_path: Path) -> None:
    network, pixels = open_clip_folder(tmp_path, *OPEN_CLIP[name])
    encoder = build(tmp_path, NO_SETTINGS)
    with torch.no_grad():
        assert_same(encoder, network.encode_image(pixels))
    assert (encoder.output, encoder.architecture) == ("image_embeds", "OpenCLIP")
    assert encoder.normalized is False


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    open_clip_folder(tmp_path, *OPEN_CLIP["clip"])
    file = tmp_path / "open_clip_config.json"
    file.write_text(
        file.read_text().replace('"layers": 1, "width": 48', '"layers": 2, "width": 48')
    )
    with pytest.raises(EncoderError, match="open_clip .* cannot load .*resblocks"):
        build(tmp_path, NO_SETTINGS)


# Texts


@pytest.mark.parametrize("name", ["clip", "clip_joint", "siglip", "siglip2"])
def test_text_towers_of_hugging_face(name: str, tmp_path: Path) -> None:
    shutil.copytree(
        FOLDERS / name, tmp_path, ignore=shutil.ignore_patterns("onnx"), dirs_exist_ok=True
    )
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    network = seeded(transformers.AutoModel.from_config(config))
    network.save_pretrained(tmp_path)
    encoder = build(tmp_path, NO_SETTINGS)
    with torch.no_grad():
        features = network.get_text_features(input_ids=torch.tensor(ANSWERS[name]["ids"]))
        expected = getattr(features, "pooler_output", features).numpy()
        scale = network.logit_scale.exp().item()
    assert np.abs(pomona.embed_text(ANSWERS["texts"], encoder) - expected).max() < 1e-4
    assert encoder.text is not None
    assert encoder.text.logit_scale == pytest.approx(scale)
    if "siglip" in name:
        assert encoder.text.logit_bias == pytest.approx(network.logit_bias.item())
    (tmp_path / "tokenizer.json").unlink()
    without = build(tmp_path, NO_SETTINGS)
    assert (without.text, without.fingerprint) == (None, encoder.fingerprint)


@pytest.mark.parametrize("kind", ["clip", "siglip", "mobileclip"])
def test_text_towers_of_open_clip(kind: str, tmp_path: Path) -> None:
    golden = FOLDERS / "immich"
    text = json.loads((golden / "config.json").read_text())["text_cfg"]
    model = {"vision_cfg": VISION, "text_cfg": text}
    has_bias = kind == "siglip"
    if has_bias:
        model |= {"init_logit_bias": -10.0, "custom_text": True}
    if kind == "mobileclip":  # its tokens attend to those that fill a short text
        model["text_cfg"] = text | {"no_causal_mask": True}
    network, pixels = open_clip_folder(tmp_path, model, {})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(golden / "textual" / name, tmp_path)
    encoder = build(tmp_path, NO_SETTINGS)
    with torch.no_grad():
        assert_same(encoder, network.encode_image(pixels))
        expected = network.encode_text(torch.tensor(ANSWERS["immich"]["ids"])).numpy()
        scale = network.logit_scale.exp().item()
    assert np.abs(pomona.embed_text(ANSWERS["texts"], encoder) - expected).max() < 1e-4
    assert encoder.text is not None
    assert encoder.text.probability == ("sigmoid" if has_bias else "softmax")
    assert encoder.text.logit_scale == pytest.approx(scale)
    assert encoder.text.logit_bias == (pytest.approx(network.logit_bias.item()) if has_bias else 0)


# Files


def resnet() -> Any:
    import torchvision

    network = torchvision.models.resnet18()
    network.fc = torch.nn.Identity()
    return seeded(network)


def torchvision_pixels() -> Any:
    from torchvision import transforms

    transform = transforms.Compose(
        [
            transforms.Resize(72),
            transforms.CenterCrop(64),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    return torch.stack([transform(image) for image in IMAGES])


TORCHVISION = NetworkSettings(
    size=64,
    resize_size=72,
    resize="bilinear",
    scale=1 / 255,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)


@pytest.mark.parametrize("how", ["script", "trace"])
def test_torchscript_of_torchvision(how: str, tmp_path: Path) -> None:
    network, file = resnet(), tmp_path / "resnet.pt"
    if how == "script":
        torch.jit.script(network).save(file)
    else:
        torch.jit.trace(network, torch.zeros(1, 3, 64, 64)).save(file)
    encoder = build(file, TORCHVISION, trust=True)
    with torch.no_grad():
        assert_same(encoder, network(torchvision_pixels()))
    assert encoder.architecture == "TorchScript"
    assert pipeline(encoder.preprocessing).startswith("resize shorter side to 72 (bilinear)")


@pytest.mark.parametrize("is_dynamic", [False, True])
def test_torch_export_of_torchvision(is_dynamic: bool, tmp_path: Path) -> None:
    network, file = resnet(), tmp_path / "resnet.pt2"
    shapes = {0: torch.export.Dim("batch")} if is_dynamic else None
    pixels = torch.zeros(2, 3, 64, 64)
    program = torch.export.export(
        network,
        (pixels[:1] if not is_dynamic else pixels,),
        dynamic_shapes=(shapes,) if is_dynamic else None,
    )
    torch.export.save(program, file)
    encoder = build(file, TORCHVISION, trust=True)
    with torch.no_grad():
        assert_same(encoder, network(torchvision_pixels()))
    assert encoder.architecture == "torch.export"


@pytest.mark.parametrize(
    ("name", "message"), [("a.pt", "as TorchScript"), ("a.pt2", "as a program of torch.export")]
)
def test_another_file_of_pytorch_is_refused(tmp_path: Path, name: str, message: str) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / name)
    with pytest.raises(EncoderError, match=f"cannot read .* {message}"):
        build(tmp_path / name, TORCHVISION, trust=True)


def test_torchscript_needs_a_size(tmp_path: Path) -> None:
    torch.jit.script(resnet()).save(tmp_path / "a.pt")
    with pytest.raises(EncoderError, match="takes images of any size: give `size`"):
        build(tmp_path / "a.pt", NetworkSettings(scale=1, resize_mode="squash"), trust=True)
