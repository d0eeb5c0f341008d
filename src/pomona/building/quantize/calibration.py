"""A sample of the user's own images, as the pixels that a worker passes to the network."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pomona.encoder.preprocessing import Preprocessing
from pomona.errors import EncoderError, SourceError
from pomona.io.location import check_spelling, is_remote
from pomona.source.image_file import read_batches
from pomona.source.listing import Source
from pomona.worker.featurize import encode_images
from pomona.worker.prepare import EXACT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.encoder.preprocessing import Pixels

__all__ = ["FEWEST", "MOST", "sample_pixels"]

_log = logging.getLogger(__name__)

MOST = 300
"""Images in a sample. MobileNetV2's worst cosine to float32 is 0.925 with 10, 0.953 with 30, 0.959
with 100 and 0.961 with 300. If pictures differ more than fruits on white, more images help more."""

FEWEST = 30

_TRIED = 20 * MOST  # files, if most of them cannot be decoded


def sample_pixels(images: str | os.PathLike[str], preprocessing: Preprocessing) -> Pixels:
    """Read a sample that is spread over all images, and is the same in each call.

    Images that cannot be decoded are skipped.

    Args:
        images: a folder, a glob or an image on this machine.
        preprocessing: of the encoder that the sample is for.

    Returns:
        (N, height, width, 3), RGB; N is at most `MOST`. The order is random, because NNCF
        corrects biases on the first fifth only.

    Raises:
        SourceError: there are no images, or they are on another file system.
        EncoderError: fewer than `FEWEST` can be read.
    """
    folder = os.fspath(images)
    check_spelling(folder, "`calibrate`", SourceError)
    if is_remote(folder):
        raise SourceError(f"`calibrate` {folder} is not on this machine: copy a few hundred here")
    source = Source(folder)
    source.check()
    files = list(source.files(lambda error: _log.warning("cannot list %s", error)))
    random = np.random.default_rng(0)
    chosen = [files[index] for index in itertools.islice(_spread(len(files), random), _TRIED)]
    sample = _Pixels(preprocessing)
    for batch in read_batches(chosen, lambda _: None):
        encode_images(batch["content"], batch["read_error"], sample, EXACT)
        if len(sample.kept) >= MOST:
            break
    if len(sample.kept) < FEWEST:
        raise EncoderError(
            f"`calibrate` {folder} has {len(sample.kept)} different images that can be "
            f"read, in {len(files)} files; expected {FEWEST} or more, better {MOST}: add images "
            "like those that the encoder will see"
        )
    return random.permutation(np.stack(sample.kept[:MOST]))


def _spread(count: int, random: np.random.Generator) -> Iterator[int]:
    """Yield 0..count-1, each once: first one number of each of `MOST` equal parts, then another.

    A listing is in the order of its folders, so each folder has its share of the sample.
    """
    stretches = np.array_split(np.arange(count), min(MOST, count) or 1)
    rounds = itertools.zip_longest(*(random.permutation(stretch) for stretch in stretches))
    return (int(index) for turn in rounds for index in turn if index is not None)


class _Pixels:
    """Takes the place of a network in the worker, and keeps its input."""

    batch_size = 1
    dimension = 0

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing
        self.kept: list[Pixels] = []

    def predict(self, images: Pixels, features: NDArray[np.float32]) -> None:  # noqa: ARG002 - it has none
        self.kept.extend(images.copy())
