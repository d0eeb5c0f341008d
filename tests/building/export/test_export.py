"""Encoders as folders for model servers: `pomona.export_encoder`."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import pomona
from command_line import run
from network_files import SCALED, encoder_from, onnx_network
from pomona.building.export import folder as folders
from pomona.building.graph.endpoints import encoder_of_graph
from pomona.encoder.encoder import Encoder
from pomona.encoder.names import EXPORT_FORMATS
from pomona.encoder.preprocessing import Preprocessing
from pomona.runtime.openvino import import_openvino
from pomona.runtime.parity import probe_images
from pomona.runtime.registry import runtime_for
from text_towers import encoder_in

RUNTIMES = ("openvino", "onnxruntime")
IN_PROCESS = [each for each in EXPORT_FORMATS if each != "savedmodel"]  # which needs TensorFlow


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Encoder]:
    """One small network of 32 x 32 pixels, for each runtime."""
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    file = tmp_path_factory.mktemp("network") / "small.onnx"
    onnx_network(file)
    settings = replace(SCALED, layer="embedding")
    return {each: encoder_from(file, settings, runtime=each) for each in RUNTIMES}


def computed(encoder: Encoder, images: np.ndarray) -> np.ndarray:
    vectors = np.empty((len(images), encoder.dimension), np.float32)
    runtime_for(encoder).predict(images, vectors)
    return vectors


def some_images(encoder: Encoder) -> np.ndarray:
    """Seven images that are no probes."""
    spec = encoder.preprocessing
    shape = (7, spec.height, spec.width, 3)
    return np.random.default_rng(4).integers(0, 256, shape).astype(spec.pixel_type)


def served_by_openvino(folder: Path) -> Any:
    """Load the folder as OpenVINO Model Server does: through its config.json."""
    openvino = import_openvino()
    config = json.loads((folder / "config.json").read_text())["model_config_list"][0]["config"]
    core = openvino.Core()
    assert set(config["plugin_config"]) <= set(core.get_property("CPU", "SUPPORTED_PROPERTIES"))
    model = core.read_model(folder / config["base_path"] / "1" / "model.xml")
    return core.compile_model(model, "CPU", config["plugin_config"])


@pytest.mark.parametrize("to", IN_PROCESS)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_each_folder_has_a_card_probes_and_a_readme(
    small: dict[str, Encoder], tmp_path: Path, to: Any, runtime: str
) -> None:
    if (to, runtime) == ("onnx", "openvino"):
        pytest.skip("nothing converts OpenVINO's graph")
    encoder = small[runtime]
    pomona.export_encoder(encoder, tmp_path / "served", to=to, name="fruit")
    card = json.loads((tmp_path / "served" / "encoder.json").read_text())
    assert (card["format"], card["name"]) == (to, "fruit")
    assert card["encoder"]["fingerprint"] == encoder.fingerprint
    assert Preprocessing.from_json(card["preprocessing"]) == encoder.preprocessing
    assert card["input"] == {"name": "pixels", "type": "uint8", "shape": [-1, 32, 32, 3]}
    assert card["output"] == {"name": "features", "type": "float32", "shape": [-1, 8]}
    pixels = np.load(tmp_path / "served" / "probe_pixels.npy")
    vectors = np.load(tmp_path / "served" / "probe_vectors.npy")
    assert np.array_equal(pixels, probe_images(32, 32))
    assert np.array_equal(vectors, computed(encoder, pixels))
    readme = (tmp_path / "served" / "README.md").read_text()
    assert "(N, 32, 32, 3)" in readme
    assert "$" not in readme.replace("$PWD", "")


def test_openvino_takes_any_number_of_images(encoder: Encoder, tmp_path: Path) -> None:
    pomona.export_encoder(encoder, tmp_path / "served", to="openvino")
    served = served_by_openvino(tmp_path / "served")
    assert served.input("pixels").get_element_type().to_string() == "u8"
    assert str(served.input("pixels").get_partial_shape()) == "[?,224,224,3]"
    assert str(served.output("features").get_partial_shape()) == "[?,1280]"
    images, alone = some_images(encoder), computed(encoder, some_images(encoder))
    for start, stop in ((0, 7), (0, 1), (3, 5)):
        found = served(images[start:stop])[0]
        assert np.abs(found - alone[start:stop]).max() < 1e-5 * np.abs(alone).max()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_openvino_serves_encoders_of_both_runtimes(
    small: dict[str, Encoder], tmp_path: Path, runtime: str
) -> None:
    encoder = small[runtime]
    pomona.export_encoder(encoder, tmp_path / "served", to="openvino")
    images = some_images(encoder)
    found = served_by_openvino(tmp_path / "served")(images)[0]
    assert np.abs(found - computed(encoder, images)).max() < 1e-5 * np.abs(found).max()


def _mean_of_batch(ops: Any, pixels: Any) -> Any:
    """Add the mean of all images to each: right for one image only."""
    numbers = ops.convert(pixels, "f32")
    mixed = ops.add(numbers, ops.reduce_mean(numbers, np.array([0]), keep_dims=True))
    return ops.reduce_mean(mixed, np.array([1, 2]), keep_dims=False)


def _mixed_axes(ops: Any, pixels: Any) -> Any:
    """Reshape with the axis of the images in second place."""
    means = ops.reduce_mean(ops.convert(pixels, "f32"), np.array([1]), keep_dims=False)
    turned = ops.transpose(means, np.array([1, 0, 2]))
    joined = ops.reshape(turned, np.array([4, 24]), special_zero=False)
    return ops.transpose(joined, np.array([1, 0]))


@pytest.mark.parametrize("network", [_mean_of_batch, _mixed_axes])
def test_a_network_that_is_right_for_one_image_only_takes_one(
    tmp_path: Path, network: Callable[[Any, Any], Any]
) -> None:
    openvino = import_openvino()
    from openvino import opset8

    pixels = opset8.parameter([1, 32, 32, 3], openvino.Type.u8, "pixels")
    graph = openvino.Model([network(opset8, pixels).output(0)], [pixels])
    encoder = encoder_of_graph(
        graph,
        SCALED,
        model="mean",
        architecture="a mean",
        weights="none",
        weights_sha256="0",
        preprocessing=Preprocessing(height=32, width=32, mean=(0, 0, 0), std=(1, 1, 1)),
        output="mean",
        precision="f32",
    )
    pomona.export_encoder(encoder, tmp_path / "served", to="openvino")
    card = json.loads((tmp_path / "served" / "encoder.json").read_text())
    assert card["input"]["shape"] == [1, 32, 32, 3]
    assert "takes one image in a request" in (tmp_path / "served" / "README.md").read_text()
    served = served_by_openvino(tmp_path / "served")
    image = some_images(encoder)[:1]
    assert np.array_equal(served(image)[0], computed(encoder, image))


def test_openvino_refuses_8_bit_sums_that_its_server_cannot_prevent_from_overflow(
    small: dict[str, Encoder], tmp_path: Path
) -> None:
    quantized = replace(small["openvino"], precision="int8")
    with pytest.raises(pomona.EncoderError, match="overflow on some processors.*triton or kserve"):
        pomona.export_encoder(quantized, tmp_path / "served", to="openvino")
    pomona.export_encoder(quantized, tmp_path / "served", to="triton")
    (settings,) = (tmp_path / "served").glob("*/1/settings.json")
    assert json.loads(settings.read_text())["LP_TRANSFORMS_MODE"] is False


class _Tensor:
    """Triton's tensor, for its program."""

    def __init__(self, name: str, array: np.ndarray) -> None:
        self.name, self.array = name, array

    def as_numpy(self) -> np.ndarray:
        return self.array


@pytest.fixture
def triton_model(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Any]:
    """Load an exported model as Triton's Python backend does."""
    backend = ModuleType("triton_python_backend_utils")
    backend.Tensor = _Tensor  # type: ignore[attr-defined]
    backend.InferenceResponse = lambda tensors: SimpleNamespace(tensors=tensors)  # type: ignore[attr-defined]
    backend.get_input_tensor_by_name = lambda request, name: request[name]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend)
    monkeypatch.setitem(sys.modules, "openvino_telemetry", None)

    def load(folder: Path) -> Any:
        model = runpy.run_path(str(folder / "1" / "model.py"))["TritonPythonModel"]()
        model.initialize({"model_repository": str(folder), "model_version": "1"})
        return model

    return load


def test_the_program_for_triton_refuses_a_network_with_other_vectors(
    small: dict[str, Encoder], tmp_path: Path, triton_model: Callable[[Path], Any]
) -> None:
    other = np.frombuffer(small["openvino"].probes, "<f4") * np.float32(1.01)
    encoder = replace(small["openvino"], probes=other.tobytes())
    pomona.export_encoder(encoder, tmp_path / "served", to="triton", name="fruit")
    with pytest.raises(RuntimeError, match=r"differs from the encoder's by 0.0099 .*limit 0.001"):
        triton_model(tmp_path / "served" / "fruit")


def test_the_program_for_triton_answers_several_requests_with_vectors_of_the_encoder(
    encoder: Encoder, tmp_path: Path, triton_model: Callable[[Path], Any]
) -> None:
    pomona.export_encoder(encoder, tmp_path / "served", to="triton", name="fruit")
    model = triton_model(tmp_path / "served" / "fruit")
    images, alone = some_images(encoder), computed(encoder, some_images(encoder))
    parts = [slice(0, 1), slice(1, 4), slice(4, 7)]
    answers = model.execute([{"pixels": _Tensor("pixels", images[part])} for part in parts])
    for part, answer in zip(parts, answers, strict=True):
        (tensor,) = answer.tensors
        assert tensor.name == "features"
        assert np.array_equal(tensor.array, alone[part])


@pytest.mark.parametrize(
    ("runtime", "backend"), [("openvino", "python"), ("onnxruntime", "onnxruntime")]
)
def test_triton_batches_pixels(
    small: dict[str, Encoder], tmp_path: Path, runtime: str, backend: str
) -> None:
    pomona.export_encoder(small[runtime], tmp_path / "served", to="triton", name="fruit")
    lines = (tmp_path / "served" / "fruit" / "config.pbtxt").read_text().splitlines()
    assert lines[:5] == [
        f'backend: "{backend}"',
        "max_batch_size: 64",
        'input [ { name: "pixels", data_type: TYPE_UINT8, dims: [ 32, 32, 3 ] } ]',
        'output [ { name: "features", data_type: TYPE_FP32, dims: [ 8 ] } ]',
        "dynamic_batching { }",
    ]


def test_onnx_gives_the_vectors_of_the_encoder(small: dict[str, Encoder], tmp_path: Path) -> None:
    import onnxruntime

    encoder = small["onnxruntime"]
    pomona.export_encoder(encoder, tmp_path / "served", to="onnx")
    session = onnxruntime.InferenceSession(tmp_path / "served" / "model.onnx")
    assert session.get_outputs()[0].shape == ["N", 8]
    images = some_images(encoder)
    (found,) = session.run(["features"], {"pixels": images})
    assert np.abs(found - computed(encoder, images)).max() < 1e-5 * np.abs(found).max()


def test_an_onnx_network_may_have_tensors_of_these_names(
    small: dict[str, Encoder], tmp_path: Path
) -> None:
    import onnx

    encoder = small["onnxruntime"]
    model = onnx.load_model_from_string(encoder.graph)
    assert "features" in {name for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["pixels" if name == "pomona_scaled" else name for name in names]
    encoder = replace(encoder, graph=model.SerializeToString())
    pomona.export_encoder(encoder, tmp_path / "served", to="onnx")
    exported = onnx.load(tmp_path / "served" / "model.onnx")
    onnx.checker.check_model(exported)
    assert [value.name for value in exported.graph.input] == ["pixels"]
    assert [value.name for value in exported.graph.output] == ["features"]


def test_an_onnx_network_for_one_image_stays_one(small: dict[str, Encoder], tmp_path: Path) -> None:
    import onnx

    model = onnx.load_model_from_string(small["onnxruntime"].graph)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    encoder = replace(small["onnxruntime"], graph=model.SerializeToString())
    pomona.export_encoder(encoder, tmp_path / "onnx", to="onnx")
    card = json.loads((tmp_path / "onnx" / "encoder.json").read_text())
    assert card["input"]["shape"] == [1, 32, 32, 3]
    pomona.export_encoder(encoder, tmp_path / "triton", to="triton", name="fruit")
    config = (tmp_path / "triton" / "fruit" / "config.pbtxt").read_text()
    assert "max_batch_size: 0" in config
    assert "dims: [ 1, 32, 32, 3 ]" in config
    assert "dynamic_batching" not in config


def test_kserve_gets_the_encoder_without_its_text_tower(tmp_path: Path) -> None:
    encoder = encoder_in("clip")
    assert encoder.text is not None
    pomona.export_encoder(encoder, tmp_path / "served", to="kserve", name="fruit")
    loaded = Encoder.load(tmp_path / "served" / "fruit.encoder")
    assert loaded == replace(encoder, text=None)
    program = (tmp_path / "served" / "server.py").read_text()
    compile(program, "server.py", "exec")
    assert "python server.py fruit.encoder" in (tmp_path / "served" / "README.md").read_text()


def test_an_openvino_encoder_cannot_become_onnx(
    capfd: pytest.CaptureFixture[str], encoder_file: Path, tmp_path: Path
) -> None:
    code, out, err = run(
        capfd, "encoder", "export", encoder_file, "--to", "onnx", tmp_path / "served"
    )
    assert (code, out) == (2, "")
    assert "cannot become ONNX: build it from an .onnx file with --runtime onnxruntime" in err
    assert "use --to openvino, triton or kserve" in err
    assert not [*tmp_path.iterdir()]


def test_the_command_names_the_model_after_the_file(
    capfd: pytest.CaptureFixture[str], small: dict[str, Encoder], tmp_path: Path
) -> None:
    small["openvino"].save(tmp_path / "ripe fruit.encoder")
    served = tmp_path / "served"
    command = ("encoder", "export", tmp_path / "ripe fruit.encoder", "--to", "triton", served)
    code, out, _ = run(capfd, *command)
    assert code == 0
    assert out == f"{served}: written for triton\nnext: read {served}/README.md\n"
    assert (served / "ripe_fruit" / "config.pbtxt").is_file()


def test_an_existing_folder_is_refused_and_kept(
    capfd: pytest.CaptureFixture[str], encoder_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "served").mkdir()
    code, _, err = run(
        capfd, "encoder", "export", encoder_file, "--to", "kserve", tmp_path / "served"
    )
    assert code == 2
    assert f"{tmp_path}/served already exists: give the name of a new folder" in err
    assert [*tmp_path.rglob("*")] == [tmp_path / "served"]


def test_a_failure_leaves_nothing(
    small: dict[str, Encoder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders.np, "save", full)
    with pytest.raises(pomona.EncoderError, match="cannot write .*: No space left on device"):
        pomona.export_encoder(small["openvino"], tmp_path / "served", to="openvino")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("to", IN_PROCESS)
def test_an_encoder_without_probes_is_refused(
    small: dict[str, Encoder], tmp_path: Path, to: Any
) -> None:
    encoder = replace(small["onnxruntime"], probes=b"")
    with pytest.raises(pomona.EncoderError, match="no vectors to compare others with: build it"):
        pomona.export_encoder(encoder, tmp_path / "served", to=to)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("to", [each for each in IN_PROCESS if each != "kserve"])
def test_an_export_with_other_vectors_than_the_encoder_is_refused(
    small: dict[str, Encoder], tmp_path: Path, to: Any
) -> None:
    encoder = small["onnxruntime"]
    other = np.frombuffer(encoder.probes, "<f4") * np.float32(1.01)
    with pytest.raises(pomona.EncoderError, match="differs by 0.0099 of its largest number"):
        pomona.export_encoder(replace(encoder, probes=other.tobytes()), tmp_path / "served", to=to)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", ["a/b", "..", "fruit salad", ""])
def test_a_name_that_is_no_part_of_an_address_is_refused(
    small: dict[str, Encoder], tmp_path: Path, name: str
) -> None:
    with pytest.raises(pomona.EncoderError, match="expected letters, digits"):
        pomona.export_encoder(small["openvino"], tmp_path / "served", to="triton", name=name)
