"""Shared by the tests of sources and tables elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import pomona
from pomona.encoder.encoder import Encoder
from pomona.job.summary import Summary


@pytest.fixture
def run(encoder: Encoder) -> Callable[..., Summary]:
    """Extract with the encoder of the goldens, on one worker."""

    def extract(source: object, table: object, **more: object) -> Summary:
        return pomona.extract(
            source, table, encoder=encoder, engine=pomona.LocalEngine(workers=1), **more
        )

    return extract
