"""Configuration of a model in Keras 2 -> in Keras 3: the same layers with the same connections.

    configuration, as JSON has it -> layers that Keras 3 has -> calls in Keras 3's form

Keras 2 writes a call as `[[name, node, tensor, arguments], ...]`. It counts the calls of a model
within a model from 1, because that model's own graph is its call 0. If the user or Keras' own
`preprocess_input` wrote `x / 127.5 - 1`, there is a layer for each function of TensorFlow.
"""

from __future__ import annotations

from typing import Any

from pomona.building.keras.keras2_functions import as_operation

__all__ = ["NETWORK_LAYERS", "fit_name", "modernized"]

Config = dict[str, Any]

_MODELS = {
    "Functional": "keras.src.models.functional",
    "Model": "keras.src.models.functional",
    "Sequential": "keras",
}
_FUNCTIONS = ("TFOpLambda", "SlicingOpLambda")

NETWORK_LAYERS = {
    "CustomScaleLayer": "keras.src.applications.inception_resnet_v2",
    "LayerScale": "keras.src.applications.convnext",
    "StochasticDepth": "keras.src.applications.convnext",
}
"""Modules of layers that both versions define next to the networks that use them."""

# Arguments that Keras 3 does not know and that have no effect: the values in all files that Keras 2
# can write.
_GONE = {
    "Conv1DTranspose": ("groups",),
    "Conv2DTranspose": ("groups",),
    "DepthwiseConv1D": ("groups",),
    "DepthwiseConv2D": ("groups",),
    "SeparableConv1D": ("groups",),
    "SeparableConv2D": ("groups",),
    "SpatialDropout2D": ("noise_shape",),
    "MultiHeadAttention": ("query_shape", "key_shape", "value_shape", "softmax_robust_masking"),
    "GRU": ("time_major",),
    "LSTM": ("time_major",),
    "SimpleRNN": ("time_major",),
}


def modernized(part: Any) -> Any:
    """Return a configuration of Keras 2 for Keras 3, as far as inference needs it.

    Args:
        part: the configuration of a model, a layer, or anything within one.

    Returns:
        A new configuration. Unknown TensorFlow functions stay unchanged, with their class.
    """
    if isinstance(part, list):
        return [modernized(each) for each in part]
    if not isinstance(part, dict):
        return part
    if part.get("class_name") == "Sequential":
        part = _with_input(part)
    part = {key: modernized(value) for key, value in part.items()}
    kind, config = part.get("class_name"), part.get("config")
    if not isinstance(kind, str) or not isinstance(config, dict):
        return part
    if kind in _MODELS:
        return _model(part, kind, config)
    return _layer(part, kind, config)


def _layer(part: Config, kind: str, config: Config) -> Config:
    if kind == "InputLayer" and "batch_input_shape" in config:
        config["batch_shape"] = config["batch_input_shape"]
    elif kind == "BatchNormalization" and isinstance(config.get("axis"), list):
        (config["axis"],) = config["axis"]
    elif kind == "ThresholdedReLU":
        part |= {"class_name": "ReLU"}
        config = part["config"] = {"name": config.get("name"), "threshold": config.get("theta")}
    elif kind == "RandomCrop":  # in prediction, it takes the centre of the picture
        part |= {"class_name": "Resizing"}
        size = {"height": config.get("height"), "width": config.get("width")}
        config = part["config"] = {
            "name": config.get("name"),
            **size,
            "crop_to_aspect_ratio": True,
        }
    elif kind.startswith("Random"):
        # Augmentation: Keras 3 has other arguments for it, or does not have it.
        part |= {"class_name": "Identity"}
        config = part["config"] = {"name": config.get("name")}
    elif kind == "LeakyReLU" and "alpha" in config:
        config["negative_slope"] = config.pop("alpha")
    elif kind == "MultiHeadAttention":
        part.pop("build_config", None)  # has one of the three shapes that Keras 3 expects
    elif kind in NETWORK_LAYERS and _last(part.get("module")) in ("", _last(NETWORK_LAYERS[kind])):
        part |= {"module": NETWORK_LAYERS[kind], "registered_name": kind}
    if isinstance(config.get("dtype"), dict):  # a policy; everything is computed in float32 here
        config["dtype"] = "float32"
    for old in ("batch_input_shape", "ragged", "sparse", *_GONE.get(kind, ())):
        config.pop(old, None)
    return part


def _with_input(part: Config) -> Config:
    """Convert a Sequential whose first layer has the input's shape, as before TensorFlow 2.2."""
    config = part.get("config")
    if isinstance(config, list):
        config = {"name": part.get("name", "sequential"), "layers": config}
    layers = config.get("layers") if isinstance(config, dict) else None
    if not isinstance(config, dict) or not isinstance(layers, list) or not layers:
        return part
    first = layers[0].get("config", {})
    if layers[0].get("class_name") != "InputLayer" and "batch_input_shape" in first:
        shape = first["batch_input_shape"]
        input_config = {"name": f"{first.get('name')}_input", "batch_shape": shape}
        layers = [{"class_name": "InputLayer", "config": input_config}, *layers]
    return {**part, "config": {**config, "layers": layers}}


def _model(part: Config, kind: str, config: Config) -> Config:
    if "module" in part:
        part |= {"module": _MODELS[kind], "registered_name": None}
    layers = config.get("layers")
    if not isinstance(layers, list) or "output_layers" not in config:
        return part
    names = {layer["name"]: layer["class_name"] for layer in layers if "name" in layer}
    calls = _Calls(names)
    config["layers"] = [_called(layer, calls) for layer in layers]
    for ends in ("input_layers", "output_layers"):
        references = calls.end(config[ends])
        is_single = isinstance(references, list) and len(references) == 1
        config[ends] = references[0] if is_single else references
    return part


def _called(layer: Config, calls: _Calls) -> Config:
    """Return a layer of a functional model, with its calls in the form of Keras 3."""
    nodes = [calls.arguments(node) for node in layer.get("inbound_nodes", [])]
    if layer["class_name"] in _FUNCTIONS:
        layer = as_operation(layer, nodes) or layer
    else:
        layer = layer | {"inbound_nodes": [{"args": [a], "kwargs": k} for a, k in nodes]}
    name = fit_name(layer["name"])
    return layer | {"name": name, "config": {**layer["config"], "name": name}}


class _Calls:
    """Reads references to the outputs of layers."""

    def __init__(self, kinds: dict[str, str]) -> None:
        self._kinds = kinds  # of each layer of the model, by its name

    def arguments(self, node: list[Any]) -> tuple[Any, Config]:
        """Return a call's first argument, and its arguments by name."""
        entries = [node] if node and isinstance(node[0], str) else node
        first = [self._given(entry) for entry in entries]
        keywords = entries[0][3] if entries and len(entries[0]) > 3 else {}
        by_name = {key: self._argument(value) for key, value in keywords.items()}
        return (first[0] if len(first) == 1 else first), by_name

    def end(self, reference: Any) -> Any:
        """Convert references to inputs or outputs of a model, nested lists and dictionaries too."""
        if isinstance(reference, dict):
            return {key: self.end(each) for key, each in reference.items()}
        if not reference or not isinstance(reference[0], str):
            return [self.end(each) for each in reference]
        name, node, tensor = reference
        # Here, and only here, Keras 3 also counts the calls of functional models from 1.
        counts = self._kinds.get(name) == "Sequential"
        return [fit_name(name), node - counts, tensor]

    def _given(self, entry: list[Any]) -> Any:
        name, node, tensor = entry[:3]
        return tensor if name == "_CONSTANT_VALUE" else self._tensor(name, node, tensor)

    def _argument(self, value: Any) -> Any:
        if isinstance(value, list):
            if len(value) == 3 and isinstance(value[0], str) and value[0] in self._kinds:
                return self._tensor(*value)
            return [self._argument(each) for each in value]
        return value

    def _tensor(self, name: str, node: int, tensor: int) -> Config:
        history = [fit_name(name), node - (self._kinds.get(name) in _MODELS), tensor]
        tensor_config = {"shape": [None], "dtype": "float32", "keras_history": history}
        return {"class_name": "__keras_tensor__", "config": tensor_config}


def _last(module: Any) -> str:
    return str(module or "").rpartition(".")[2]


def fit_name(name: str) -> str:
    """Return a name of Keras 2 in a form that Keras 3 allows."""
    return name.replace("/", "_")  # which Keras 3 forbids
