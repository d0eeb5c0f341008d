"""An encoder in Triton's Python backend, computed by OpenVINO. Pomona wrote this file.

Each image is computed alone, one on each core at a time, so that a vector does not depend on the
images beside it. `pip install openvino` in Triton's image.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as triton

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it reports each import
import openvino


class TritonPythonModel:
    """The class that Triton looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the network, and compare the vector of a probe with that of the encoder."""
        folder = Path(args["model_repository"], args["model_version"])
        settings = json.loads((folder / "settings.json").read_text())
        cores = len(os.sched_getaffinity(0))
        threads = {"NUM_STREAMS": cores, "INFERENCE_NUM_THREADS": cores}
        core = openvino.Core()
        compiled = core.compile_model(folder / "model.xml", "CPU", settings | threads)
        probe = np.load(folder / "probe.npz")
        off = np.abs(compiled(probe["pixels"])[0] - probe["vectors"]).max()
        off /= np.abs(probe["vectors"]).max()
        if not off <= probe["tolerance"]:
            raise RuntimeError(
                f"a probe's vector differs from the encoder's by {off:.2g} of its largest number "
                f"(limit {probe['tolerance']:g}): use the version of OpenVINO that README.md names"
            )
        self.dimension = compiled.output().shape[1]
        self.requests = openvino.AsyncInferQueue(compiled, cores)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests that Triton has collected."""
        tensors = [triton.get_input_tensor_by_name(each, "pixels") for each in requests]
        images = [tensor.as_numpy() for tensor in tensors]
        features = np.empty((sum(map(len, images)), self.dimension), np.float32)

        def keep(done: Any, row: int) -> None:
            features[row] = done.get_output_tensor().data[0]

        self.requests.set_callback(keep)
        for row, image in enumerate(image for several in images for image in several):
            self.requests.start_async({0: image[None]}, row)
        self.requests.wait_all()
        ends = np.cumsum([len(several) for several in images])[:-1]
        return [
            triton.InferenceResponse([triton.Tensor("features", vectors)])
            for vectors in np.split(features, ends)
        ]
