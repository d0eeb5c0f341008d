"""The folder of an export: written as a whole, with a card and vectors to check it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from shutil import rmtree
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona._version import __version__
from pomona.encoder.description import pipeline
from pomona.encoder.encoder import Encoder
from pomona.errors import EncoderError
from pomona.io.location import check_here, local_path
from pomona.runtime.openvino import import_openvino
from pomona.runtime.parity import (
    TOLERANCE,
    probe_images,
    relative_difference,
    stored_vectors,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.encoder.preprocessing import Pixels

__all__ = ["Served", "check_vectors", "copy_program", "describe", "probes", "written_folder"]

_ONE_IMAGE = "It takes one image in a request: send several requests at the same time."


@dataclass(frozen=True)
class Served:
    """What a server that has loaded the folder takes and returns.

    Attributes:
        page: page of its README, in `readme/`.
        most_images: most images in a request; None if there is no limit.
    """

    page: str
    most_images: int | None = None


@contextmanager
def written_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder to write; it gets its name if no error occurs.

    Raises:
        EncoderError: the folder exists or cannot be written.
    """
    check_here(str(folder), "the folder", EncoderError, "write it here, and copy it there")
    place = Path(local_path(str(folder)))
    if place.exists() or place.is_symlink():
        raise EncoderError(f"{folder} already exists: give the name of a new folder")
    draft = place.with_name(f".{uuid.uuid4().hex}")
    try:
        draft.mkdir()
        yield draft
        draft.rename(place)
    except OSError as error:
        raise EncoderError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        rmtree(draft, ignore_errors=True)


def probes(encoder: Encoder) -> tuple[Pixels, NDArray[np.float32]]:
    """Return the probes (3, height, width, 3), and the vectors (3, D) that the encoder stores.

    Raises:
        EncoderError: the encoder is older than the probes.
    """
    spec = encoder.preprocessing
    pixels = probe_images(spec.height, spec.width).astype(spec.pixel_type)
    return pixels, stored_vectors(encoder)


def check_vectors(encoder: Encoder, found: NDArray[Any], what: str) -> None:
    """Compare vectors of the probes with those of the encoder.

    Args:
        encoder: the encoder.
        found: the vectors, (3, D).
        what: what computed them, for the error.

    Raises:
        EncoderError: they differ by more than the parity gate allows.
    """
    _, expected = probes(encoder)
    if found.shape != expected.shape:
        raise EncoderError(
            f"{what} returns vectors of shape {found.shape}, expected {expected.shape}"
        )
    difference = float(np.max([*map(relative_difference, found, expected)]))  # NaN stays
    if not difference <= TOLERANCE[encoder.precision]:
        raise EncoderError(
            f"{what} computes other features than encoder {encoder.fingerprint[:12]} "
            f"({encoder.model}): a probe's vector differs by {difference:.2g} of its largest "
            f"number (limit {TOLERANCE[encoder.precision]:g}); use another format"
        )


def describe(folder: Path, encoder: Encoder, to: str, name: str, served: Served) -> None:
    """Write the card, the probes and the README into a folder."""
    pixels, vectors = probes(encoder)
    batch = -1 if served.most_images != 1 else 1
    spec = encoder.preprocessing
    card = {
        "format": to,
        "name": name,
        "input": {
            "name": "pixels",
            "type": spec.pixel_type,
            "shape": [batch, spec.height, spec.width, 3],
        },
        "output": {
            "name": "features",
            "type": "float32",
            "shape": [batch, encoder.dimension],
        },
        "most_images": served.most_images,
        "tolerance": TOLERANCE[encoder.precision],
        "preprocessing": spec.to_json(),
        "encoder": encoder.provenance(),
    }
    (folder / "encoder.json").write_text(json.dumps(card, indent=2) + "\n")
    np.save(folder / "probe_pixels.npy", pixels)
    np.save(folder / "probe_vectors.npy", vectors)
    values = {
        "name": name,
        "model": encoder.model,
        "weights": encoder.weights,
        "fingerprint": encoder.fingerprint,
        "pipeline": pipeline(spec),
        "type": spec.pixel_type,
        "height": spec.height,
        "width": spec.width,
        "dimension": encoder.dimension,
        "batch": "1" if batch == 1 else "N",
        "note": _ONE_IMAGE if batch == 1 else "",
        "first": "[:1]" if batch == 1 else "",
        "pomona": __version__,
        "openvino": import_openvino().__version__.partition("-")[0],
    }
    page = _page(served.page).safe_substitute(values)
    readme = _page("folder.md").substitute(values, page=page.strip())
    (folder / "README.md").write_text(readme)


def _page(name: str) -> Template:
    place = files("pomona.building.export").joinpath("readme", name)
    return Template(place.read_text(encoding="utf-8"))


def copy_program(name: str, place: Path) -> None:
    """Copy a program that a server runs, or that checks a server."""
    place.write_bytes(files("pomona.building.export.programs").joinpath(name).read_bytes())
