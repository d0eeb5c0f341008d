"""The vectors to train on: standardised, stored once, in memory or in a file, read in blocks."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from pomona.analysis.classifier.logistic_regression import block_rows
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
    """The vectors to train on: (N, D) float32, each column of mean 0 and variance 1 or 0.

    Attributes:
        store: the vectors, or a file of them, which is not mapped: mapped pages would count as
            memory of the process.
        rows: N.
        mean: (D,) float32, of the vectors before.
        scale: (D,) float32, their standard deviation, with 1 instead of 0.
    """

    store: NDArray[np.float32] | IO[bytes]
    rows: int
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]

    @property
    def in_file(self) -> bool:
        """Return whether the vectors are in a file."""
        return not isinstance(self.store, np.ndarray)

    def close(self) -> None:
        """Delete the file, if the vectors are in one."""
        if not isinstance(self.store, np.ndarray):
            self.store.close()

    def blocks(self, classes: int = 0) -> Iterator[NDArray[np.float32]]:
        """Yield the vectors in blocks (B, D). A block is valid until the next one is read.

        Args:
            classes: number of classes; a block of many has fewer rows.
        """
        size = block_rows(len(self.mean), classes)
        if isinstance(self.store, np.ndarray):
            yield from (self.store[start : start + size] for start in range(0, self.rows, size))
            return
        self.store.seek(0)
        buffer = np.empty((min(size, self.rows), len(self.mean)), np.float32)
        for start in range(0, self.rows, size):
            block = buffer[: min(size, self.rows - start)]
            self.store.readinto(block)  # type: ignore[attr-defined]
            yield block

    def take(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return rows by their numbers, which must be in ascending order, as a copy."""
        taken, start = [], 0
        for block in self.blocks():
            low, high = np.searchsorted(numbers, [start, start + len(block)])
            taken.append(block[numbers[low:high] - start])
            start += len(block)
        return np.concatenate(taken)


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
    for block in _training_blocks(vectors, rows, "measuring", progress):
        scaler.partial_fit(block)
    mean, scale = scaler.mean_.astype(np.float32), scaler.scale_.astype(np.float32)
    standard = (
        ((block - mean) / scale).astype(np.float32, copy=False)
        for block in _training_blocks(vectors, rows, "reading", progress)
    )
    size = count * vectors.dimension * 4
    if size > memory_gib * _GIB:
        return TrainingData(_file_of(standard, size), count, mean, scale)
    matrix = np.empty((count, vectors.dimension), np.float32)
    start = 0
    for block in standard:
        matrix[start : start + len(block)] = block
        start += len(block)
    return TrainingData(matrix, count, mean, scale)


def _training_blocks(
    vectors: Vectors, rows: SplitRows, what: str, progress: Progress
) -> Iterator[NDArray[np.float32]]:
    """Yield the vectors to train on in blocks."""
    start = 0
    for block in vectors.blocks():
        progress(Snapshot(what, start, len(rows.parts)))
        chosen = rows.parts[start : start + len(block)] == TRAIN
        start += len(block)
        if chosen.any():
            yield block.vectors[chosen]


def _file_of(blocks: Iterator[NDArray[np.float32]], size: int) -> IO[bytes]:
    """Write an unnamed file, which is deleted when the process ends for any reason."""
    folder = Path(tempfile.gettempdir())
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open as long as the result
    try:
        if hasattr(os, "posix_fallocate"):  # a full disk is an error now, not after the writing
            os.posix_fallocate(file.fileno(), 0, size)
        for block in blocks:
            file.write(block.data)
    except OSError as error:
        file.close()
        raise RunError(
            f"the vectors to train on take {size / _GIB:.1f} GiB, and {folder} cannot hold "
            f"them ({error.strerror}): set TMPDIR to a larger disk, or raise `memory_gib`"
        ) from error
    return file
