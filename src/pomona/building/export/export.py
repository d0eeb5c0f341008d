"""Encoder -> a folder for a model server: `pomona.export_encoder`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from pomona.building.export import kserve, onnx_model, openvino_model, savedmodel, triton
from pomona.building.export.folder import describe, written_folder
from pomona.encoder.encoder import Encoder
from pomona.encoder.names import EXPORT_FORMATS
from pomona.errors import EncoderError

__all__ = ["export_encoder"]


def export_encoder(
    encoder: Encoder | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    to: Literal["openvino", "triton", "kserve", "onnx", "savedmodel"],
    name: str | None = None,
    built_from: str | os.PathLike[str] | None = None,
) -> None:
    """Write an encoder as a folder that a model server loads.

        pomona.export_encoder("fruit.encoder", "served/", to="triton")

    The server takes pixels of the network's input size and returns vectors. The arithmetic of the
    preprocessing is in the network; decoding and resizing is the client's. The folder also has a
    card, a README, and the encoder's probe images with their vectors, so that you can check the
    server. If a network is converted, Pomona computes the probes with the result, and refuses
    vectors that differ.

    Args:
        encoder: an encoder, its path or URI.
        folder: the new folder.
        to: `openvino` for OpenVINO Model Server; `triton`; `kserve`, a program for KServe's Python
            model server; `onnx`, a file for ONNX Runtime, if the encoder runs on it; or
            `savedmodel` for TensorFlow Serving, if the network is one of Keras.
        name: name of the model in the server; by default that of the encoder's file, or else of its
            network.
        built_from: for `savedmodel`, the Keras file of the network or of the weights that the
            encoder was built from. Keras builds the network again, on TensorFlow. ImageNet weights
            and untrained ones need no file.

    Raises:
        EncoderError: the encoder cannot be read or converted; or the folder exists, or cannot be
            written.
        RunError: TensorFlow's process ended.
    """
    if to not in EXPORT_FORMATS:
        raise EncoderError(f"`to` is {to!r}: expected {', '.join(EXPORT_FORMATS)}")
    if built_from is not None and to != "savedmodel":
        raise EncoderError(f"`built_from` is for `to` savedmodel, not for {to}: leave it out")
    loaded = encoder if isinstance(encoder, Encoder) else Encoder.load(encoder)
    known = loaded.model if isinstance(encoder, Encoder) else Path(encoder).name
    name = _checked(name) if name is not None else _plain(Path(known).stem)
    with written_folder(Path(folder)) as draft:
        if to == "onnx":
            served = onnx_model.write(loaded, draft)
        elif to == "savedmodel":
            served = savedmodel.write(loaded, name, draft, built_from)
        else:
            write = {"kserve": kserve, "openvino": openvino_model, "triton": triton}[to].write
            served = write(loaded, name, draft)
        describe(draft, loaded, to, name, served)


def _plain(text: str) -> str:
    """Return a name of letters, digits, `_`, `-` and dots: it is part of addresses and paths."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text).lstrip(".-") or "encoder"


def _checked(name: str) -> str:
    if name != _plain(name):
        raise EncoderError(
            f"`name` is {name!r}, expected letters, digits, '_', '-' and dots, such as "
            f"{_plain(name)}"
        )
    return name
