"""The worker: record batches of images in, record batches of feature rows out.

Pure Arrow: it knows no engine. The embedded engine and Spark's `mapInArrow` run this very function,
which is why their rows are the same.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pomona.decode import MAX_PIXELS, decode
from pomona.errors import ImageError
from pomona.pillow import quiet_codecs
from pomona.preprocess import fit
from pomona.schema import FEATURE_SCHEMA

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.runtime import Runtime

__all__ = ["EXACT", "DecodeOptions", "Seen", "encode_images", "featurize", "vectors_array"]


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How images become pixels.

    Attributes:
        max_pixels: larger images are not decoded but recorded as `too_large`.
        fast: let JPEGs be scaled while they are decoded; features differ slightly.
    """

    max_pixels: int = MAX_PIXELS
    fast: bool = False

    def provenance(self) -> dict[str, str]:
        """What a feature table says of how its images became pixels."""
        return {"decode": "fast" if self.fast else "exact"}


EXACT = DecodeOptions()
"""Every pixel is decoded, as the reference features were made."""


@dataclass(slots=True)
class _Row:
    """What the table says of one image, but for what was listed."""

    status: str = "ok"
    error: str | None = None
    width: int | None = None
    height: int | None = None
    format: str | None = None
    sha256: str | None = None


class Seen:
    """The last images that a worker did, by the digest of their bytes.

    The same bytes under another name cost a look instead of a decoding and a prediction. Kept are
    some thousand, 16 MB: copies mostly lie near each other, and a worker's memory stays bounded.
    """

    _BYTES = 16 * 2**20
    _ROW_BYTES = 1024  # a row in Python, its strings and its place, roughly

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[_Row, NDArray[np.float32] | None]] = OrderedDict()

    def find(self, digest: str) -> tuple[_Row, NDArray[np.float32] | None] | None:
        """The row, and the vector (D,) of one with status `ok`; None for new bytes."""
        found = self._known.get(digest)
        if found:
            self._known.move_to_end(digest)
        return found

    def add(self, row: _Row, vector: NDArray[np.float32] | None) -> None:
        """Remember an image; a vector is copied."""
        size = self._ROW_BYTES + (0 if vector is None else vector.nbytes)
        if row.sha256 is None or size > self._BYTES:
            return
        while len(self._known) >= self._BYTES // size:
            self._known.popitem(last=False)
        self._known[row.sha256] = row, None if vector is None else vector.copy()


def featurize(
    batches: Iterator[pa.RecordBatch],
    runtime: Runtime,
    options: DecodeOptions = EXACT,
    on_image: Callable[[str], None] = lambda _: None,
    seen: Seen | None = None,
) -> Iterator[pa.RecordBatch]:
    """Turn images into rows of the feature table, one for each, in their order.

    Args:
        batches: of `pomona.schema.INPUT_SCHEMA`.
        runtime: the loaded encoder.
        options: how images become pixels.
        on_image: told after each image, with its status.
        seen: images that this worker did before, with the same runtime and options.

    Yields:
        One record batch of `pomona.schema.FEATURE_SCHEMA` for each that came in.
    """
    seen = seen or Seen()
    for batch in batches:
        contents = batch["content"]
        errors = batch["read_error"] if "read_error" in batch.schema.names else None
        rows, features = encode_images(
            contents, errors, runtime, options, on_image=on_image, seen=seen
        )
        yield _to_batch(batch, rows, features)


def encode_images(  # noqa: PLR0913 - settings, each with a sensible default
    contents: pa.Array,
    read_errors: pa.Array | None,
    runtime: Runtime,
    options: DecodeOptions = EXACT,
    *,
    on_image: Callable[[str], None] = lambda _: None,
    seen: Seen | None = None,
) -> tuple[list[_Row], NDArray[np.float32]]:
    """Decode, preprocess and predict.

    Args:
        contents: N files' bytes, null where there are none.
        read_errors: N reasons for a null, or None.
        runtime: the loaded encoder, of dimension D.
        options: how images become pixels.
        on_image: told after each image, with its status.
        seen: images that were done before, with the same runtime and options.

    Returns:
        N rows, and the vectors of those with status `ok`: (number of ok, D) float32.
    """
    seen = seen or Seen()
    height, width = runtime.preprocessing.height, runtime.preprocessing.width
    rows: list[_Row] = []
    features = np.empty((len(contents), runtime.dimension), np.float32)
    pixels = np.empty((runtime.batch_size, height, width, 3), np.uint8)
    waiting: list[_Row] = []  # images in `pixels`
    done = 0  # vectors computed

    def predict() -> None:
        nonlocal done
        if waiting:
            vectors = features[done : done + len(waiting)]
            runtime.predict(pixels[: len(waiting)], vectors)
            for row, vector in zip(waiting, vectors, strict=True):
                seen.add(row, vector)
            done += len(waiting)
            waiting.clear()

    with quiet_codecs():
        for index, content in enumerate(contents):
            buffer = content.as_buffer()
            if buffer is None:
                reason = read_errors[index].as_py() if read_errors is not None else None
                row = _Row("unreadable", reason or "no content")
            elif known := seen.find(digest := hashlib.sha256(buffer).hexdigest()):
                row, vector = known
                if vector is not None:
                    predict()  # vectors stand in the order of their rows
                    features[done] = vector
                    done += 1
            else:
                data = memoryview(buffer)
                row = _prepare(data, digest, runtime, options, pixels[len(waiting)])
                if row.status == "ok":
                    waiting.append(row)
                else:
                    seen.add(row, None)
                if len(waiting) == runtime.batch_size:
                    predict()
            rows.append(row)
            on_image(row.status)
        predict()
    return rows, features[:done]


def _prepare(
    data: memoryview,
    digest: str,
    runtime: Runtime,
    options: DecodeOptions,
    pixels: NDArray[np.uint8],
) -> _Row:
    """Turn one file's bytes into the network's input, written into `pixels`: (H, W, 3) uint8."""
    spec = runtime.preprocessing
    row = _Row(sha256=digest)
    draft = (spec.width, spec.height) if options.fast else None
    try:
        picture = decode(data, max_pixels=options.max_pixels, draft=draft)
        pixels[:] = fit(picture, spec.height, spec.width, spec.resize)
        row.width, row.height, row.format = picture.width, picture.height, picture.format
    except ImageError as error:
        # Nothing here may hold on to the error: through its traceback it holds this very frame, and
        # with it the file's bytes and the pixels, until the cyclic collector comes by.
        row.status, row.error = error.status, str(error)
        row.width, row.height, row.format = error.width, error.height, error.format
    except MemoryError:
        row.status, row.error = "too_large", "takes more memory than this process has"
    return row


def _to_batch(
    batch: pa.RecordBatch, rows: list[_Row], features: NDArray[np.float32]
) -> pa.RecordBatch:
    columns: dict[str, Any] = {name: batch[name] for name in ("path", "label", "size", "modified")}
    columns["features"] = vectors_array([row.status == "ok" for row in rows], features)
    for name in ("status", "error", "width", "height", "format"):
        columns[name] = pa.array(
            [getattr(row, name) for row in rows], FEATURE_SCHEMA.field(name).type
        )
    columns["content_sha256"] = pa.array([row.sha256 for row in rows], pa.string())
    return pa.RecordBatch.from_arrays(
        [columns[n] for n in FEATURE_SCHEMA.names], schema=FEATURE_SCHEMA
    )


def vectors_array(ok: list[bool], features: NDArray[np.float32]) -> pa.ListArray:
    """Lay vectors out as an Arrow list array without copying them.

    Args:
        ok: N flags; null where False.
        features: (number of True, D) float32.
    """
    present = np.asarray(ok, dtype=bool)
    offsets = np.zeros(len(present) + 1, np.int32)
    np.cumsum(present * features.shape[1], out=offsets[1:])
    return pa.ListArray.from_arrays(
        pa.array(offsets),
        pa.array(features.reshape(-1)),
        type=FEATURE_SCHEMA.field("features").type,
        mask=pa.array(~present),
    )
