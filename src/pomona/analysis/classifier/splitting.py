"""Which labelled images a classifier learns from, and which it is tested on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np

from pomona.errors import TableError, UsageError
from pomona.messages import count_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.analysis.vectors import Vectors

__all__ = ["TEST", "TRAIN", "FolderSplit", "ShareSplit", "SplitRows", "parse_split", "split_rows"]

TRAIN, TEST = 1, 2
"""The parts; 0 stands for rows of neither."""


@dataclass(frozen=True, slots=True)
class FolderSplit:
    """By the names of the folders that an image lies in, patterns as the shell's.

    Attributes:
        train: `Training`, or `train*`.
        test: `Testing`, or `val*`.
    """

    train: str
    test: str

    def part(self, path: str) -> int:
        """Where an image goes.

        Raises:
            TableError: both patterns fit.
        """
        folders = path.split("/")[:-1]
        trains = any(fnmatchcase(folder, self.train) for folder in folders)
        tests = any(fnmatchcase(folder, self.test) for folder in folders)
        if trains and tests:
            raise TableError(
                f"`split` {self.train}/{self.test}: both names fit folders of {path}; give names "
                "of which every image has one"
            )
        return TRAIN if trains else TEST if tests else 0


@dataclass(frozen=True, slots=True)
class ShareSplit:
    """A share of each class, drawn by chance: the same images in whatever order they come.

    Attributes:
        test: share of each class to test on, 0 to below 1.
        seed: another number draws others.
    """

    test: float = 0.2
    seed: int = 0

    def key(self, path: str) -> int:
        """A number of 64 bits by which images are put in order: the lowest are tested on."""
        digest = hashlib.blake2b(f"{self.seed}:{path}".encode(), digest_size=8).digest()
        return int.from_bytes(digest)

    def parts(self, codes: NDArray[np.int32], keys: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """The part of each row: (N,) class codes, -1 for none, and (N,) keys -> (N,).

        At least one image of each class is for training, and one for testing if it has two or more.
        """
        parts = np.where(codes >= 0, TRAIN, 0).astype(np.uint8)
        order = np.lexsort((keys, codes))
        order = order[codes[order] >= 0]
        counts = np.bincount(codes[order])
        for rows in np.split(order, np.cumsum(counts)[:-1]):
            wanted = max(1, round(self.test * len(rows))) if self.test else 0
            parts[rows[: min(wanted, len(rows) - 1)]] = TEST
        return parts


@dataclass(frozen=True, slots=True)
class SplitRows:
    """The part and the class of each row with a vector, in the table's order.

    Attributes:
        labels: the names of the classes, sorted: a code is a place in here.
        codes: (N,) int32, -1 for no label.
        parts: (N,) uint8: `TRAIN`, `TEST`, or 0 for neither.
        unlabelled: rows without a label.
        outside: rows with a label in neither folder.
    """

    labels: tuple[str, ...]
    codes: NDArray[np.int32]
    parts: NDArray[np.uint8]
    unlabelled: int
    outside: int

    def counts(self, part: int) -> NDArray[np.int64]:
        """Rows of each class in a part: (K,)."""
        return np.bincount(self.codes[self.parts == part], minlength=len(self.labels))


def parse_split(text: str) -> FolderSplit:
    """Read `Training/Testing`.

    Raises:
        UsageError: not two names with a slash between.
    """
    train, slash, test = text.partition("/")
    if not slash or not train or not test or "/" in test or train == test:
        raise UsageError(
            f"`split` {text}: expected two names of folders with a slash between, such as "
            "Training/Testing or 'train*/val*'"
        )
    return FolderSplit(train, test)


def split_rows(vectors: Vectors, split: FolderSplit | ShareSplit) -> SplitRows:
    """Give each row with a vector its class and its part. Vectors are not read.

    About 16 bytes for each row are held.

    Raises:
        TableError: there are no labels, or too few images to learn from or to test on.
    """
    codes_of: dict[str, int] = {}
    codes: list[NDArray[np.int32]] = []
    told: list[NDArray[np.uint64]] = []  # of a share: keys; of folders: parts
    for paths, labels in vectors.words():
        names = labels.to_pylist()
        for name in names:
            if name is not None:
                codes_of.setdefault(name, len(codes_of))
        codes.append(np.array([-1 if n is None else codes_of[n] for n in names], np.int32))
        tell = split.key if isinstance(split, ShareSplit) else split.part
        told.append(np.array([tell(path) for path in paths.to_pylist()], np.uint64))
    if not codes_of:
        raise TableError(
            f"{vectors.table} has no labels on its {count_of(vectors.rows, 'vector')}: extract it "
            "with `label`, by default the name of each image's folder"
        )
    found = _in_order(codes_of, np.concatenate(codes))
    if isinstance(split, ShareSplit):
        parts = split.parts(found[1], np.concatenate(told))
    else:
        parts = np.where(found[1] >= 0, np.concatenate(told), 0).astype(np.uint8)
    unlabelled = int((found[1] < 0).sum())
    outside = int(((found[1] >= 0) & (parts == 0)).sum())
    rows = SplitRows(*found, parts, unlabelled, outside)
    _check(vectors, rows, split)
    return rows


def _in_order(
    codes_of: dict[str, int], codes: NDArray[np.int32]
) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Number the classes by their names, not by where they were first seen."""
    labels = sorted(codes_of)
    renumbered = np.full(len(labels) + 1, -1, np.int32)  # the last place is for -1
    for new, label in enumerate(labels):
        renumbered[codes_of[label]] = new
    return tuple(labels), renumbered[codes]


def _check(vectors: Vectors, rows: SplitRows, split: FolderSplit | ShareSplit) -> None:
    table = vectors.table
    trained = rows.counts(TRAIN)
    if isinstance(split, FolderSplit):
        for part, pattern in ((TRAIN, split.train), (TEST, split.test)):
            if not rows.counts(part).any():
                raise TableError(
                    f"{table} has no labelled image in a folder {pattern}: `split` wants two "
                    f"names of folders that its paths hold"
                )
    if (trained > 0).sum() < 2:
        only = rows.labels[int(np.argmax(trained))]
        raise TableError(
            f"{table} has one class to learn, {only!r}: a classifier needs images of two or more; "
            "see 'pomona inspect', or extract it with another `label`"
        )
    if (trained > 1).sum() < 2:
        raise TableError(
            f"{table} has too few images to learn from: two classes need two or more each, found "
            f"{count_of(int((trained == 1).sum()), 'class', 'classes')} with one; if the "
            "labels are wrong, extract it with another `label`"
        )
