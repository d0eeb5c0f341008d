"""The encoder that made a table, for images that are not in the table."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pomona.building.build import build_encoder
from pomona.building.cache import cached_by_fingerprint
from pomona.building.network_settings import NetworkSettings
from pomona.building.quantize.precision import convert_encoder
from pomona.encoder.encoder import Encoder
from pomona.encoder.networks import CARDS
from pomona.errors import EncoderError
from pomona.table.differences import differences

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["built_as", "encoder_of_table", "from_cache", "has_named_weights", "refuse_projected"]


def encoder_of_table(
    provenance: Mapping[str, str],
    encoder: Encoder | str | os.PathLike[str] | None = None,
    model: str | None = None,
    weights: str | None = None,
) -> Encoder:
    """Return the encoder that made a table: read, found in the cache, or built again.

    The cache of this machine has the encoder if it was built here. Otherwise it is built again if
    the provenance names a known network and weights that are available by name.

    Args:
        provenance: the provenance of the table.
        encoder: the encoder, its file or URI, instead of `model` and `weights`.
        model: the network's name or file; by default the name in the provenance.
        weights: the weights; by default the name in the provenance. A weights file must be given
            by its path, because tables store only its name.

    Raises:
        EncoderError: the encoder is not available, or another encoder made the table.
    """
    refuse_projected(provenance, "use an image that has a row, or the table that was projected")
    if encoder is not None:
        if model or weights:
            raise EncoderError(
                "`encoder` contains its network and weights: leave `model` and `weights` out"
            )
        found = encoder if isinstance(encoder, Encoder) else Encoder.load(encoder)
    elif model is None and weights is None and (cached := from_cache(provenance)):
        return cached
    else:
        found = _build(provenance, model, weights)
    if found.fingerprint != provenance["fingerprint"]:
        differ = differences(provenance, found.provenance())
        raise EncoderError(
            f"another encoder made the table, and they differ in {differ}; give the one that "
            "made the table as `encoder`, or its network as `model` and `weights` if its "
            "preprocessing was not changed"
        )
    return found


def from_cache(provenance: Mapping[str, str]) -> Encoder | None:
    """Return the encoder that made a table if it was built on this machine."""
    return cached_by_fingerprint(provenance.get("fingerprint", ""))


def refuse_projected(provenance: Mapping[str, str], instead: str) -> None:
    """Check that a table is not a projection, whose vectors no encoder makes.

    Args:
        provenance: of a table, or of a classifier that was trained on it.
        instead: what to do, for the error.

    Raises:
        EncoderError: the table is a projection.
    """
    if "projection" in provenance:
        raise EncoderError(
            f"the table was made by 'pomona project', and no encoder makes such vectors: {instead}"
        )


def has_named_weights(provenance: Mapping[str, str]) -> bool:
    """Return whether the weights in a provenance are available by their name."""
    name = provenance.get("weights", "")
    return name == "imagenet" or name.startswith("untrained:")


def _build(provenance: Mapping[str, str], model: str | None, weights: str | None) -> Encoder:
    precision = provenance.get("precision", "f32")
    if precision == "int8":
        raise EncoderError(
            "the table was made by an int8 encoder, which is not in this machine's cache: give its "
            "file as `encoder`"
        )
    name, made_by = model or provenance.get("model", ""), provenance.get("model")
    if name in CARDS and made_by in CARDS and name != made_by:
        raise EncoderError(f"the table was made by {_named(provenance)}, not by {name}")
    if weights is None and (model is None or model in CARDS):
        if not has_named_weights(provenance):
            file = "`weights`" if name in CARDS else "`model`"
            raise EncoderError(
                f"the table was made by {_named(provenance)}, which is not in this machine's "
                "cache, and tables contain no networks or weights: give the file as "
                f"{file}, or the encoder as `encoder`"
            )
        weights = provenance["weights"]
    return built_as(provenance, name, weights)


def built_as(provenance: Mapping[str, str], model: str, weights: str | None) -> Encoder:
    """Build a network with the output layer and the precision that a provenance names.

    Raises:
        EncoderError: it cannot be built, or the network has no such layer.
    """
    built = build_encoder(model, weights)
    if built.output != provenance.get("output"):
        settings = NetworkSettings(layer=provenance.get("output"))
        try:
            built = build_encoder(model, weights, settings=settings)
        except EncoderError as error:
            raise EncoderError(
                f"the table was made by {_named(provenance)}, not by {model}: {error}"
            ) from error
    return convert_encoder(built, provenance.get("precision", "f32"))


def _named(provenance: Mapping[str, str]) -> str:
    return (
        f"{provenance.get('model', '?')} with weights {provenance.get('weights', '?')} "
        f"({provenance['fingerprint'][:12]})"
    )
