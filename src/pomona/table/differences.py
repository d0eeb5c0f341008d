"""The differences between two encoders, by their provenance."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["differences"]

_PARTS = {
    "network": ("model", "architecture", "projection"),
    "weights": ("weights", "weights_sha256"),
    "preprocessing": ("input_size", "resize", "channel_order", "scale", "mean", "std"),
    "precision": ("precision", "calibration"),
    "layer": ("output", "dimension", "normalized"),
    "runtime": ("runtime",),
    "decoding": ("decode",),
}
_DEFAULTS = {"precision": "f32", "runtime": "openvino", "decode": "exact"}  # of older tables


def differences(first: Mapping[str, str], second: Mapping[str, str]) -> str:
    """Return the parts in which two provenances differ, each with its two values.

    For example `layer: avg_pool and block_13; precision: f32 and bf16`. If no part of the
    provenance differs, the result has the fingerprints.
    """
    found = []
    for part, keys in _PARTS.items():
        for key in keys:
            default = _DEFAULTS.get(key, "none")
            one, other = first.get(key, default), second.get(key, default)
            if one != other:
                found.append(f"{part}: {_pair(key, one, other)}")
                break
    if not found:
        one, other = first.get("fingerprint", "?"), second.get("fingerprint", "?")
        return f"fingerprint: {one[:12]} and {other[:12]}"
    return "; ".join(found)


def _pair(key: str, one: str, other: str) -> str:
    if key.endswith("sha256"):
        one, other = one[:12], other[:12]
    name = "" if key in _PARTS else f"{key.replace('_', ' ')} "
    return f"{name}{one} and {other}"
