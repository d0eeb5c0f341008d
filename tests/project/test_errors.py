from __future__ import annotations

import pickle

from pomona import errors
from pomona.errors import ImageError, PomonaError


def test_all_exceptions_are_exported_in_order() -> None:
    classes = [name for name, value in vars(errors).items() if isinstance(value, type)]
    assert errors.__all__ == sorted(set(classes) - {"partial"})


def test_all_exceptions_have_one_root() -> None:
    assert all(issubclass(getattr(errors, name), PomonaError) for name in errors.__all__)


def test_an_image_error_survives_pickling() -> None:
    error = ImageError("corrupt", "bad marker", width=3, height=4, format="JPEG")
    restored = pickle.loads(pickle.dumps(error))
    assert (restored.args, vars(restored)) == (error.args, vars(error))
