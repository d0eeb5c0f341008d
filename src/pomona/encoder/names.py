"""Names for the command line, without imports."""

from __future__ import annotations

__all__ = ["DEFAULT_MODEL", "EXPORT_FORMATS"]

DEFAULT_MODEL = "mobilenet_v2"

EXPORT_FORMATS = ("openvino", "triton", "kserve", "onnx", "savedmodel")
"""The values of `to` of `pomona.export_encoder`."""
