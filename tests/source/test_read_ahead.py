"""Reading ahead: what is requested, in which order, and how much is held."""

from __future__ import annotations

import io
import os
import random
import threading
import time
from typing import cast

import pytest

from pomona.source.archives import sequential
from pomona.source.archives.sequential import Sequential
from pomona.source.image_file import Content, ImageFile
from pomona.source.object_file import ObjectFile
from pomona.source.read_ahead import read_groups_ahead

MIB = 2**20


class Far:
    """An object that counts how often each part of it is read."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.size = len(content)
        self.read: list[tuple[int, int]] = []

    def read_at(self, size: int, offset: int) -> bytes:
        self.read.append((offset, size))
        return self.content[offset : offset + size]


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Far:
    """An object of ten blocks and a half."""
    monkeypatch.setattr(sequential, "_BLOCK", 1000)
    return Far(os.urandom(10_500))


def opened(far: Far) -> io.BufferedReader:
    return io.BufferedReader(Sequential(cast("ObjectFile", far)), 64)


def test_a_file_in_order_is_read_once_block_by_block(far: Far) -> None:
    assert opened(far).read() == far.content
    assert sorted(offset for offset, _ in far.read) == list(range(0, 10_500, 1000))


def test_the_next_blocks_come_while_one_is_used(far: Far) -> None:
    file = opened(far)
    file.read(1)
    deadline = time.monotonic() + 30
    while len(far.read) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(far.read) == [(0, 1000), (1000, 1000), (2000, 1000), (3000, 1000)]


def test_the_end_of_a_file_is_read_without_what_is_before_it(far: Far) -> None:
    file = opened(far)
    file.seek(-20, io.SEEK_END)
    assert file.read() == far.content[-20:]
    assert far.read == [(10_000, 1000)]


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_reads_gives_the_bytes_of_the_file(far: Far, seed: int) -> None:
    file, chance = opened(far), random.Random(seed)
    for _ in range(100):
        at, size = chance.randrange(11_000), chance.choice([0, 1, 50, 900, 2500])
        file.seek(at)
        assert file.read(size) == far.content[at : at + size]


@pytest.mark.parametrize("of_group", [1, 4])
def test_no_more_than_64_mib_are_read_and_not_yet_yielded(of_group: int) -> None:
    files = [ImageFile(str(number), MIB, 0) for number in range(400)]
    groups = [files[at : at + of_group] for at in range(0, 400, of_group)]
    lock, read, most, yielded = threading.Lock(), 0, 0, 0

    def contents(group: list[ImageFile]) -> list[Content]:
        nonlocal read, most
        with lock:
            read += len(group)
            most = max(most, read - yielded)
        return [(file.path.encode(), None) for file in group]

    for number, (content, _) in enumerate(read_groups_ahead(groups, contents, lambda _: True)):
        assert content == str(number).encode()
        yielded += 1
    assert 16 < most <= 64 + of_group
