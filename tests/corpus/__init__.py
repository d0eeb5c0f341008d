"""The regression corpus: one file for each kind of fault that was reported.

Each module of this package returns the cases of one subject from `cases()`. A case is a file that
Pomona once handled wrongly, and the correct result: either another file with the same pixels, or
the status of its row. `test_corpus.py` puts all cases into one folder, extracts the folder
with both engines, and compares. To record a new report, add a case; no other code changes.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import PurePosixPath

__all__ = ["Case", "all_cases"]


@dataclass(frozen=True)
class Case:
    """One file and its correct result.

    Attributes:
        name: the path of the file, relative to the folder of its subject.
        content: the bytes of the file.
        right: a file with the same pixels that decodes correctly; None if no vector is
            expected.
        status: the status that the row must have.
        error: a part of the reason in the row if the status is not `ok`.
        suffix: the extension of `right`, if it differs from that of `name`.
    """

    name: str
    content: bytes
    right: bytes | None = None
    status: str = "ok"
    error: str = ""
    suffix: str = ""

    def __post_init__(self) -> None:
        assert (self.right is not None) == (self.status == "ok"), (
            f"{self.name}: give `right` if and only if the status is ok"
        )

    @property
    def right_name(self) -> str:
        """The name for `right`: listed by every engine, and not the name of any case."""
        path = PurePosixPath(self.name)
        stem = str(path.with_suffix("")).replace("/", " in ").lstrip("._")
        return f"{stem} of {path.suffix[1:]}{self.suffix or path.suffix}"


def all_cases() -> Iterator[tuple[str, Case]]:
    """Yield each subject with each of its cases."""
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("test_"):
            for case in import_module(f"{__name__}.{module.name}").cases():
                yield module.name, case
