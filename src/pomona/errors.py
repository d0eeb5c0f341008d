"""Every exception that Pomona raises on purpose.

    PomonaError
    ├── UsageError          the request cannot be done: exit code 2, nothing written
    │   ├── SourceError     the images are missing or not readable
    │   ├── TableError      the table is not one, has another encoder, is locked or not writable
    │   ├── EncoderError    the model is unknown, its weights do not fit, or its file is damaged
    │   ├── ClassifierError the classifier is not one, is damaged, or has another encoder
    │   └── EngineError     the engine cannot run: no Java, no PySpark, wrong options
    ├── RunError            a run started and could not continue: exit code 1
    └── ImageError          one image could not be decoded: a row records it, the run continues

A message says what was given, what was expected and what to do, on one line.
"""

from __future__ import annotations

from functools import partial

__all__ = [
    "ClassifierError",
    "EncoderError",
    "EngineError",
    "ImageError",
    "PomonaError",
    "RunError",
    "SourceError",
    "TableError",
    "UsageError",
]


class PomonaError(Exception):
    """Base class of all exceptions of Pomona."""


class UsageError(PomonaError):
    """The request cannot be done as given. Nothing was written."""


class SourceError(UsageError):
    """The source of images is missing, empty or not readable."""


class TableError(UsageError):
    """The folder is not a feature table, another encoder made it, or it cannot be written."""


class EncoderError(UsageError):
    """The model is unknown, its weights do not fit, or its file is damaged."""


class ClassifierError(UsageError):
    """The file is not a classifier, is damaged, or belongs to another encoder."""


class EngineError(UsageError):
    """The requested engine cannot run here."""


class RunError(PomonaError):
    """A run started and could not continue. Rows written so far stay."""


class ImageError(PomonaError):
    """One image could not be turned into pixels.

    Attributes:
        status: the kind of failure, one of `pomona.worker.decode.FAILURES`.
        width: stored width in pixels; None if the header could not be read.
        height: stored height in pixels; None if the header could not be read.
        format: format of the bytes (`JPEG`, `PNG`, ...); None if it is not known.
    """

    def __init__(
        self,
        status: str,
        message: str,
        *,
        width: int | None = None,
        height: int | None = None,
        format: str | None = None,  # noqa: A002 - the name of the table's column
    ) -> None:
        super().__init__(message)
        self.status = status
        self.width = width
        self.height = height
        self.format = format

    def __reduce__(self) -> tuple[object, ...]:
        rebuild = partial(type(self), width=self.width, height=self.height, format=self.format)
        return rebuild, (self.status, str(self))
