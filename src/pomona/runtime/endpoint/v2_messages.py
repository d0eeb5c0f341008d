"""The messages of the Open Inference Protocol v2 over gRPC that the client needs.

The protocol is `inference` of `open_inference_grpc.proto` (Open Inference Protocol, required API).
Fields that Pomona does not use are left out: protobuf passes over them.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

__all__ = ["messages"]

_STRING, _INT64, _FLOAT, _BYTES = "string", "int64", "float", "bytes"

# Message -> field -> (number, type); a type in a list is repeated.
_FIELDS: dict[str, dict[str, tuple[int, str | list[str]]]] = {
    "ModelMetadataRequest": {"name": (1, _STRING), "version": (2, _STRING)},
    "TensorMetadata": {"name": (1, _STRING), "datatype": (2, _STRING), "shape": (3, [_INT64])},
    "ModelMetadataResponse": {
        "name": (1, _STRING),
        "versions": (2, [_STRING]),
        "platform": (3, _STRING),
        "inputs": (4, ["TensorMetadata"]),
        "outputs": (5, ["TensorMetadata"]),
    },
    "InferTensorContents": {"fp32_contents": (6, [_FLOAT])},
    "InferTensor": {
        "name": (1, _STRING),
        "datatype": (2, _STRING),
        "shape": (3, [_INT64]),
        "contents": (5, "InferTensorContents"),
    },
    "RequestedOutput": {"name": (1, _STRING)},
    "ModelInferRequest": {
        "model_name": (1, _STRING),
        "model_version": (2, _STRING),
        "inputs": (5, ["InferTensor"]),
        "outputs": (6, ["RequestedOutput"]),
        "raw_input_contents": (7, [_BYTES]),
    },
    "ModelInferResponse": {
        "model_name": (1, _STRING),
        "model_version": (2, _STRING),
        "outputs": (5, ["InferTensor"]),
        "raw_output_contents": (6, [_BYTES]),
    },
}


@cache
def messages() -> SimpleNamespace:
    """Return the classes of the messages, by their names."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    package = "pomona.inference"  # a program may also have loaded another package's `inference`
    file = descriptor_pb2.FileDescriptorProto(
        name="pomona_inference.proto", package=package, syntax="proto3"
    )
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            one = kind[0] if isinstance(kind, list) else kind
            label = kinds.LABEL_REPEATED if isinstance(kind, list) else kinds.LABEL_OPTIONAL
            entry = message.field.add(name=field, number=number, label=label)
            if one in _FIELDS:
                entry.type, entry.type_name = kinds.TYPE_MESSAGE, f".{package}.{one}"
            else:
                entry.type = getattr(kinds, f"TYPE_{one.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return SimpleNamespace(
        **{
            name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
            for name in _FIELDS
        }
    )
