"""Which labelled images a classifier is trained on, and which it is tested on."""

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
"""The parts; 0 means neither."""


@dataclass(frozen=True, slots=True)
class FolderSplit:
    """A split by the names of the folders that contain an image; shell patterns are allowed.

    Attributes:
        train: the folder to train on, such as `Training` or `train*`.
        test: the folder to test on, such as `Testing` or `val*`.
    """

    train: str
    test: str

    def part(self, path: str) -> int:
        """Return the part of an image: `TRAIN`, `TEST`, or 0.

        Raises:
            TableError: both patterns match.
        """
        folders = path.split("/")[:-1]
        trains = any(fnmatchcase(folder, self.train) for folder in folders)
        tests = any(fnmatchcase(folder, self.test) for folder in folders)
        if trains and tests:
            raise TableError(
                f"`split` {self.train}/{self.test}: both names match folders of {path}; give "
                "names of which each image has only one"
            )
        return TRAIN if trains else TEST if tests else 0


@dataclass(frozen=True, slots=True)
class ShareSplit:
    """A random share of each class, which does not depend on the order of the images.

    Attributes:
        test: share of each class to test on, 0 to below 1.
        seed: of the random choice.
    """

    test: float = 0.2
    seed: int = 0

    def key(self, path: str) -> int:
        """Return a 64-bit number that orders the images: the lowest are the test images."""
        digest = hashlib.blake2b(f"{self.seed}:{path}".encode(), digest_size=8).digest()
        return int.from_bytes(digest)

    def parts(self, codes: NDArray[np.int32], keys: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """Return the part of each row: (N,) class codes, -1 for none, and (N,) keys -> (N,).

        At least one image of each class is for training, and one for testing if it has two or more.
        """
        parts = np.where(codes >= 0, TRAIN, 0).astype(np.uint8)
        order = np.lexsort((keys, codes))
        order = order[codes[order] >= 0]
        counts = np.bincount(codes[order])
        for rows in np.split(order, np.cumsum(counts)[:-1]):
            tested = max(1, round(self.test * len(rows))) if self.test else 0
            parts[rows[: min(tested, len(rows) - 1)]] = TEST
        return parts


@dataclass(frozen=True, slots=True)
class SplitRows:
    """The part and the class of each row with a vector, in the table's order.

    Attributes:
        labels: the names of the classes, sorted; a code is an index of this tuple.
        codes: (N,) int32, -1 for no label.
        parts: (N,) uint8: `TRAIN`, `TEST`, or 0 for neither.
        unlabelled: number of rows without a label.
        outside: number of labelled rows in neither folder.
    """

    labels: tuple[str, ...]
    codes: NDArray[np.int32]
    parts: NDArray[np.uint8]
    unlabelled: int
    outside: int

    def counts(self, part: int) -> NDArray[np.int64]:
        """Return the number of rows of each class in a part: (K,)."""
        return np.bincount(self.codes[self.parts == part], minlength=len(self.labels))


def parse_split(text: str) -> FolderSplit:
    """Read `Training/Testing`.

    Raises:
        UsageError: the text is not two different names separated by a slash.
    """
    train, slash, test = text.partition("/")
    if not slash or not train or not test or "/" in test or train == test:
        raise UsageError(
            f"`split` {text}: expected two folder names separated by a slash, such as "
            "Training/Testing or 'train*/val*'"
        )
    return FolderSplit(train, test)


def split_rows(vectors: Vectors, split: FolderSplit | ShareSplit) -> SplitRows:
    """Return class and part of each row with a vector. Vectors are not read.

    This takes about 16 bytes of memory for each row.

    Raises:
        TableError: there are no labels, or too few images to train or to test on.
    """
    codes_of: dict[str, int] = {}
    codes: list[NDArray[np.int32]] = []
    values: list[NDArray[np.uint64]] = []  # keys for a share, parts for folders
    for paths, labels in vectors.words():
        names = labels.to_pylist()
        for name in names:
            if name is not None:
                codes_of.setdefault(name, len(codes_of))
        codes.append(np.array([-1 if n is None else codes_of[n] for n in names], np.int32))
        value_of = split.key if isinstance(split, ShareSplit) else split.part
        values.append(np.array([value_of(path) for path in paths.to_pylist()], np.uint64))
    if not codes_of:
        raise TableError(
            f"{vectors.table} has no labels on its {count_of(vectors.rows, 'vector')}: extract it "
            "with `label`, by default the name of each image's folder"
        )
    found = _in_order(codes_of, np.concatenate(codes))
    if isinstance(split, ShareSplit):
        parts = split.parts(found[1], np.concatenate(values))
    else:
        parts = np.where(found[1] >= 0, np.concatenate(values), 0).astype(np.uint8)
    unlabelled = int((found[1] < 0).sum())
    outside = int(((found[1] >= 0) & (parts == 0)).sum())
    rows = SplitRows(*found, parts, unlabelled, outside)
    _check(vectors, rows, split)
    return rows


def _in_order(
    codes_of: dict[str, int], codes: NDArray[np.int32]
) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Number the classes by their sorted names instead of their first occurrence."""
    labels = sorted(codes_of)
    renumbered = np.full(len(labels) + 1, -1, np.int32)  # the last entry is for -1
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
                    f"{table} has no labelled image in a folder {pattern}: `split` needs two "
                    "folder names that occur in its paths"
                )
    if (trained > 0).sum() < 2:
        only = rows.labels[int(np.argmax(trained))]
        raise TableError(
            f"{table} has one class to train on, {only!r}: a classifier needs two or more; "
            "see 'pomona inspect', or extract it with another `label`"
        )
    if (trained > 1).sum() < 2:
        raise TableError(
            f"{table} has too few images to train on: two classes need two or more each, found "
            f"{count_of(int((trained == 1).sum()), 'class', 'classes')} with one; if the "
            "labels are wrong, extract it with another `label`"
        )
