"""A model of MLServer: pixels -> vectors, with the graph of an exported folder."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse, MetadataTensor


class Features(MLModel):  # type: ignore[misc]
    """The model."""

    async def load(self) -> bool:
        """Load the graph."""
        graph = openvino.Core().read_model(self.settings.parameters.uri)
        hint = {"INFERENCE_PRECISION_HINT": "f32"}
        self._network = openvino.compile_model(graph, "CPU", hint)
        size = [dimension.get_length() for dimension in list(graph.inputs[0].partial_shape)[1:]]
        length = graph.outputs[0].partial_shape[1].get_length()
        self.inputs = [MetadataTensor(name="pixels", datatype="UINT8", shape=[-1, *size])]
        self.outputs = [MetadataTensor(name="features", datatype="FP32", shape=[-1, length])]
        return True

    async def predict(self, payload: Any) -> Any:
        """Compute the images one by one, as Pomona does."""
        pixels = NumpyCodec.decode_input(payload.inputs[0]).astype(np.uint8)
        vectors = np.concatenate([self._network(image[None])[0] for image in pixels])
        output = NumpyCodec.encode_output("features", vectors)
        return InferenceResponse(model_name=self.name, outputs=[output])
