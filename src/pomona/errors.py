"""Every exception that Pomona raises on purpose.

    PomonaError
    ├── UsageError          what was asked for cannot be done: exit code 2, nothing written
    │   ├── SourceError     the images: missing, none there, not readable
    │   ├── TableError      the table: not one, of another encoder, locked, not writable
    │   ├── EncoderError    the network: unknown model, unfit weights, damaged blob
    │   ├── ClassifierError the classifier: not one, damaged, of another encoder
    │   └── EngineError     the engine: no Java, no PySpark, wrong combination of options
    ├── RunError            a run that began well could not go on: exit code 1
    └── ImageError          one image could not become pixels; a row records it, no run ends by it

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
    """The base of all of Pomona's own exceptions."""


class UsageError(PomonaError):
    """What was asked for cannot be done as it was asked."""


class SourceError(UsageError):
    """The source of images is missing, empty or not readable."""


class TableError(UsageError):
    """The feature table is not one, was made by another encoder, or cannot be written."""


class EncoderError(UsageError):
    """The model is unknown, its weights do not fit, or its blob is damaged."""


class ClassifierError(UsageError):
    """The classifier's file is not one or is damaged, or its encoder is another."""


class EngineError(UsageError):
    """The engine that was asked for cannot run here."""


class RunError(PomonaError):
    """A run that began well could not go on."""


class ImageError(PomonaError):
    """One image could not be turned into pixels.

    Attributes:
        status: the class of failure, one of `pomona.worker.decode.FAILURES`.
        width: stored width in pixels, where the header could still be read.
        height: stored height in pixels, likewise.
        format: what the bytes are (`JPEG`, `PNG`, ...), likewise.
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
