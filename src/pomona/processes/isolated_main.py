"""The program of an isolated process: one image in, one row out, until the parent ends.

python -m pomona.processes.isolated_main
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pomona.encoder.encoder import Encoder
from pomona.encoder.endpoint import Endpoint
from pomona.processes.child import serve
from pomona.runtime.registry import load_once, loads_so_far
from pomona.worker.featurize import featurize
from pomona.worker.prepare import DecodeOptions

if TYPE_CHECKING:
    import pyarrow as pa

__all__: list[str] = []


def _begin(
    order: tuple[bytes, Endpoint | None, DecodeOptions],
) -> tuple[int, Callable[[pa.RecordBatch], pa.RecordBatch]]:
    blob, endpoint, decode = order
    encoder = Encoder.from_bytes(blob)
    runtime = load_once(encoder.fingerprint, lambda: encoder, endpoint=endpoint)

    def row(image: pa.RecordBatch) -> pa.RecordBatch:
        return next(featurize(iter([image]), runtime, decode))

    return loads_so_far(), row


if __name__ == "__main__":
    serve(_begin)
