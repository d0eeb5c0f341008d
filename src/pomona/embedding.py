"""Images in memory or in files to vectors, without a table: `pomona.embed`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from pomona.building.build import encoder_for
from pomona.encoder.encoder import Encoder
from pomona.encoder.endpoint import Endpoint
from pomona.encoder.names import DEFAULT_MODEL
from pomona.errors import ImageError, UsageError
from pomona.runtime.registry import load_encoder_once
from pomona.runtime.text import text_vectors
from pomona.source.image_file import look_at, read_content
from pomona.worker.decode import Picture, picture_of
from pomona.worker.pillow_limits import quiet_codecs
from pomona.worker.prepare import EXACT, DecodeOptions, Preparer, Row, Seen
from pomona.worker.resize import network_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from pomona.encoder.preprocessing import Pixels
    from pomona.runtime.runtime import Runtime

    AnyImage = str | os.PathLike[str] | bytes | Image | NDArray[np.uint8]

__all__ = ["embed", "embed_text"]


def embed(
    images: AnyImage | Iterable[AnyImage],
    encoder: Encoder | Endpoint | str | os.PathLike[str] = DEFAULT_MODEL,
    *,
    decode: DecodeOptions = EXACT,
    errors: Literal["raise", "nan"] = "raise",
) -> NDArray[np.float32]:
    """Compute the vectors of some images, with the same pixels as `pomona.extract`.

        vectors = pomona.embed(["a.jpg", "b.jpg"], "fruit.encoder")  # (2, D)

    The function works in this process, with one thread, and loads an encoder once. For many files,
    `pomona.extract` uses all cores and stores the results.

    Args:
        images: one image or several. Each is a path, the bytes of an image file, a PIL image, or an
            array of uint8: (height, width, 3) in RGB, or (height, width) in grey. An array
            (N, height, width, 3) is N images.
        encoder: an encoder, its path or URI, the name of a network (`pomona models` lists them;
            it gets ImageNet weights), the file of a network, or an `Endpoint`.
        decode: how files become pixels.
        errors: `raise` an error for an image without a vector, or return `nan` in its row.

    Returns:
        (N, D) float32, one row for each image, in their order. One image gives one row.

    Raises:
        ImageError: an image cannot be read or decoded. The message names it by its position.
        EncoderError: the encoder cannot be read, built or loaded.
        UsageError: an item of `images` is not an image, or `errors` is unknown.
    """
    if errors not in ("raise", "nan"):
        raise UsageError(f"errors is {errors!r}: give 'raise' or 'nan'")
    chosen = encoder_for(encoder)
    runtime = load_encoder_once(chosen)
    prepare = Preparer(runtime.preprocessing, decode, Seen())
    blocks: list[NDArray[np.float32]] = []
    waiting: list[Pixels | None] = []  # None is an image that failed
    with quiet_codecs():
        for position, image in enumerate(_items(images)):
            row, pixels = _prepared(image, position, prepare)
            if pixels is None and errors == "raise":
                raise ImageError(
                    row.status,
                    f"images[{position}]{_name(image)}: {row.status}: {row.error}",
                    width=row.width,
                    height=row.height,
                    format=row.format,
                )
            waiting.append(pixels)
            if len(waiting) == runtime.batch_size:
                blocks.append(_predicted(waiting, runtime))
                waiting = []
        if waiting:
            blocks.append(_predicted(waiting, runtime))
    return np.concatenate(blocks) if blocks else np.empty((0, runtime.dimension), np.float32)


def embed_text(
    texts: str | Iterable[str], encoder: Encoder | str | os.PathLike[str]
) -> NDArray[np.float32]:
    """Compute the vectors of some texts, in the same space as those of images.

        words = pomona.embed_text(["a red apple", "a kiwi"], "clip.encoder")  # (2, D)

    The encoder needs a text tower: that of a folder of CLIP or SigLIP. Texts are cleaned, cut off
    and padded as by the model's authors. To compare a text with an image, use the cosine.

    Args:
        texts: one text or several.
        encoder: an encoder, its path or URI, or the folder of a network.

    Returns:
        (N, D) float32, one row for each text, in their order. One text gives one row.

    Raises:
        EncoderError: the encoder cannot be read, built or loaded, or it has no text tower.
        UsageError: an item of `texts` is not text.
    """
    found = [texts] if isinstance(texts, str) else list(texts)
    for position, text in enumerate(found):
        if not isinstance(text, str):
            raise UsageError(f"texts[{position}] is {type(text).__name__}, expected text")
    return text_vectors(encoder_for(encoder), found)


def _items(images: Any) -> Iterator[Any]:
    """Yield the images of one image or of several."""
    if isinstance(images, np.ndarray):
        if images.ndim == 4:
            yield from images
            return
        if images.dtype != object:
            yield images
            return
        images = images.ravel().tolist()
    if isinstance(images, (str, os.PathLike, bytes, bytearray, memoryview)) or _is_pil(images):
        yield images
        return
    try:
        yield from iter(images)
    except TypeError:
        yield images  # `_prepared` refuses it


def _prepared(image: Any, position: int, prepare: Preparer) -> tuple[Row, Pixels | None]:
    """Return the row of an image, and its pixels; None if it failed."""
    if isinstance(image, (str, os.PathLike)):
        content, error = read_content(look_at(os.path.abspath(os.fspath(image))))  # noqa: PTH100
        return _from_file(prepare, content, error)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return _from_file(prepare, bytes(image))
    if (content := _unread_file(image)) is not None:
        return _from_file(prepare, content)
    spec = prepare.spec
    try:
        picture = _picture(image, position)
    except ImageError as failed:
        return Row(failed.status, str(failed)), None
    return Row(), network_pixels(picture, spec)


def _from_file(
    prepare: Preparer, content: bytes | None, error: str | None = None
) -> tuple[Row, Pixels | None]:
    return prepare((None if content is None else pa.py_buffer(content), error))


def _picture(image: Any, position: int) -> Picture:
    if _is_pil(image):
        return picture_of(image)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        from PIL import Image

        if image.size and (image.ndim == 2 or image.shape[2:] == (3,)):
            return picture_of(Image.fromarray(np.ascontiguousarray(image)))
    shown = (
        f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
    )
    raise UsageError(
        f"images[{position}] is {shown}: give a path, the bytes of a file, a PIL image, or a uint8 "
        "array (height, width, 3) or (height, width)"
    )


def _unread_file(image: Any) -> bytes | None:
    """Return the file of a PIL image whose pixels are not loaded yet: Pomona decodes it itself."""
    file = getattr(image, "fp", None)
    if not (_is_pil(image) and file and getattr(image, "tile", None) and image.tell() == 0):
        return None
    position = file.tell()
    file.seek(0)
    content: bytes = file.read()
    file.seek(position)
    return content


def _is_pil(image: object) -> bool:
    import sys

    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(image, module.Image)


def _predicted(images: list[Pixels | None], runtime: Runtime) -> NDArray[np.float32]:
    """Return the vectors of images: (N, D) float32, `nan` for those that failed."""
    vectors = np.full((len(images), runtime.dimension), np.nan, np.float32)
    good = [number for number, pixels in enumerate(images) if pixels is not None]
    if good:
        computed = np.empty((len(good), runtime.dimension), np.float32)
        runtime.predict(np.stack([images[number] for number in good]), computed)  # type: ignore[misc]
        vectors[good] = computed
    return vectors


def _name(image: object) -> str:
    return f" ({os.fspath(image)!r})" if isinstance(image, (str, os.PathLike)) else ""
