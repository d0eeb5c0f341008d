"""The vectors to train on: standardised, stored once, in memory or in a memory-mapped file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pomona.analysis.classifier.splitting import TRAIN
from pomona.errors import RunError
from pomona.progress import Progress, Snapshot

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.analysis.classifier.splitting import SplitRows
    from pomona.analysis.vectors import Vectors

__all__ = ["TrainingData", "standardise"]

_GIB = 2**30


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The vectors to train on: (N, D) float32, each column of mean 0 and variance 1 or 0."""

    matrix: NDArray[np.float32]
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    in_file: bool


def standardise(
    vectors: Vectors, rows: SplitRows, memory_gib: float, progress: Progress
) -> TrainingData:
    """Read the table twice: for mean and variance, and for the standardised vectors.

    Raises:
        RunError: the vectors take more than `memory_gib`, and there is no space for their file.
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    count = int((rows.parts == TRAIN).sum())
    for _, block in _training_blocks(vectors, rows, "measuring", progress):
        scaler.partial_fit(block)
    in_file = count * vectors.dimension * 4 > memory_gib * _GIB
    matrix = (_in_file if in_file else np.empty)((count, vectors.dimension), np.float32)
    mean, scale = scaler.mean_.astype(np.float32), scaler.scale_.astype(np.float32)
    for start, block in _training_blocks(vectors, rows, "reading", progress):
        matrix[start : start + len(block)] = (block - mean) / scale
    return TrainingData(matrix, mean, scale, in_file)


def _training_blocks(
    vectors: Vectors, rows: SplitRows, what: str, progress: Progress
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the vectors to train on in blocks, each with the index of its first row."""
    at = start = 0
    for block in vectors.blocks():
        progress(Snapshot(what, start, len(rows.parts)))
        chosen = rows.parts[start : start + len(block)] == TRAIN
        start += len(block)
        chosen_vectors = block.vectors[chosen]
        if len(chosen_vectors):
            yield at, chosen_vectors
        at += len(chosen_vectors)


def _in_file(shape: tuple[int, int], dtype: type[np.float32]) -> NDArray[np.float32]:
    """Return an array in an unnamed file, which is deleted when the process ends for any reason."""
    size = shape[0] * shape[1] * np.dtype(dtype).itemsize
    folder = Path(tempfile.gettempdir())
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            # If the disk were full, writing a page would kill the process.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:  # macOS
                file.truncate(size)
        except OSError as error:
            raise RunError(
                f"the vectors to train on take {size / _GIB:.1f} GiB, and {folder} cannot hold "
                f"them ({error.strerror}): set TMPDIR to a larger disk, or raise `memory_gib`"
            ) from error
        return np.memmap(file, dtype, "r+", shape=shape)
