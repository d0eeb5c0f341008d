from __future__ import annotations

import gc
import hashlib
import threading
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import drawn
from pomona.encoder.preprocessing import Preprocessing
from pomona.schema import FEATURE_SCHEMA, INPUT_SCHEMA
from pomona.worker.decode import decode
from pomona.worker.featurize import featurize, images_at_once, vectors_array
from pomona.worker.prepare import DecodeOptions, Row, Seen


class MeanColour:
    """A runtime whose vectors are easy to check: the mean red, green and blue of each image."""

    preprocessing = Preprocessing(height=16, width=16, mean=(0.0,) * 3, std=(1.0,) * 3)
    dimension = 3

    def __init__(self, batch_size: int = 1) -> None:
        self.batch_size = batch_size
        self.calls: list[int] = []

    def predict(self, images: np.ndarray, features: np.ndarray) -> None:
        self.calls.append(len(images))
        features[:] = images.mean(axis=(1, 2))


def batch(*contents: bytes | None, read_error: str | None = None) -> pa.RecordBatch:
    count = len(contents)
    return pa.RecordBatch.from_pydict(
        {
            "path": [f"file:/data/{i}.jpg" for i in range(count)],
            "label": ["data"] * count,
            "size": [None if content is None else len(content) for content in contents],
            "modified": [1_000_000] * count,
            "content": list(contents),
            "read_error": [read_error if content is None else None for content in contents],
        },
        INPUT_SCHEMA,
    )


def run(*batches: pa.RecordBatch, runtime: MeanColour | None = None) -> list[dict[str, object]]:
    rows: Iterator[pa.RecordBatch] = featurize(iter(batches), runtime or MeanColour())
    return [row for out in rows for row in out.to_pylist()]


def red(level: int = 255) -> bytes:
    return drawn.encode(Image.new("RGB", (20, 10), (level, 0, 0)), "PNG")


def test_a_good_image_becomes_a_complete_row() -> None:
    content = red()
    (row,) = run(batch(content))
    assert row == {
        "path": "file:/data/0.jpg",
        "label": "data",
        "features": [255.0, 0.0, 0.0],
        "status": "ok",
        "error": None,
        "width": 20,
        "height": 10,
        "format": "PNG",
        "size": len(content),
        "modified": row["modified"],
        "content_sha256": hashlib.sha256(content).hexdigest(),
        "brightness": pytest.approx(76 / 255),  # luma of red
        "sharpness": None,  # no edges
    }


def test_rows_have_the_order_of_the_input() -> None:
    rows = run(batch(red(1), b"", red(2), b"junk", None, red(3)), batch(red(4)))
    assert [row["path"] for row in rows] == [f"file:/data/{i}.jpg" for i in (*range(6), 0)]
    assert [row["status"] for row in rows] == [
        "ok", "empty", "ok", "unsupported", "unreadable", "ok", "ok",
    ]  # fmt: skip
    reds = [row["features"][0] for row in rows if row["features"]]  # type: ignore[index]
    assert reds == [1.0, 2.0, 3.0, 4.0]


def test_a_failed_row_has_no_vector_and_a_reason() -> None:
    (row,) = run(batch(drawn.encode(drawn.picture(), "JPEG")[:-50]))
    assert row["features"] is None
    assert row["status"] == "truncated"
    assert row["error"]
    assert (row["width"], row["height"], row["format"]) == (48, 32, "JPEG")
    assert row["content_sha256"]


def test_an_image_that_exhausts_memory_gets_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("pomona.worker.prepare.decode", decode)
    (row,) = run(batch(red()))
    assert (row["status"], row["features"]) == ("too_large", None)
    assert row["error"] == "takes more memory than this process has"


def test_an_unreadable_file_keeps_its_reason() -> None:
    (row,) = run(batch(None, read_error="cannot be read: Permission denied"))
    assert (row["status"], row["error"]) == ("unreadable", "cannot be read: Permission denied")
    assert row["content_sha256"] is None


@pytest.mark.parametrize("size", [1, 2, 4, 7])
def test_the_batch_size_of_the_runtime_does_not_change_rows(size: int) -> None:
    contents = [red(1), b"", red(2), red(3), b"junk", red(4), red(5)]
    runtime = MeanColour(size)
    assert run(batch(*contents), runtime=runtime) == run(batch(*contents))
    assert sum(runtime.calls) == 5
    assert all(call <= size for call in runtime.calls)


@given(
    sizes=st.lists(st.integers(0, 5), max_size=6),
    at_once=st.integers(2, 9),
    threads=st.integers(1, 3),
)
def test_a_device_with_large_batches_does_not_change_rows(
    sizes: list[int], at_once: int, threads: int
) -> None:
    contents = iter([red(1), b"", red(2), b"junk", red(1), red(3), red(4), red(5)] * 4)
    batches = [batch(*(next(contents) for _ in range(size))) for size in sizes]
    device = MeanColour(at_once)
    rows = list(featurize(iter(batches), device, threads=threads))
    assert [out.num_rows for out in rows] == sizes
    assert rows == list(featurize(iter(batches), MeanColour()))


def test_a_device_gets_full_batches_across_record_batches() -> None:
    device = MeanColour(4)
    batches = [batch(*(red(10 * n + m) for m in range(3))) for n in range(5)]
    assert [out.num_rows for out in featurize(iter(batches), device)] == [3] * 5
    assert device.calls == [4, 4, 4, 3]


def test_threads_decode_while_a_device_computes() -> None:
    later = threading.Event()

    class Device(MeanColour):
        def predict(self, images: np.ndarray, features: np.ndarray) -> None:
            assert later.wait(10)  # a later image is decoded at the same time
            super().predict(images, features)

    def decoded(data: memoryview, **settings: object) -> object:
        if bytes(data) == last:
            later.set()
        return decode(data, **settings)  # type: ignore[arg-type]

    last = red(99)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("pomona.worker.prepare.decode", decoded)
        rows = run(batch(red(1), red(2), last), runtime=Device(2))
    assert [row["status"] for row in rows] == ["ok"] * 3


def test_images_are_prefetched_only_up_to_the_limit() -> None:
    drawn_so_far = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal drawn_so_far
        for level in range(100):
            drawn_so_far += 1
            yield batch(red(level))

    device = MeanColour(4)
    next(featurize(batches(), device))
    assert drawn_so_far <= images_at_once(device) == 12


def test_each_image_is_reported_with_its_status() -> None:
    statuses: list[str] = []
    list(featurize(iter([batch(red(), b"")]), MeanColour(), DecodeOptions(), statuses.append))
    assert statuses == ["ok", "empty"]


def test_the_pixel_limit_is_an_option() -> None:
    (out,) = featurize(iter([batch(red())]), MeanColour(), DecodeOptions(max_pixels=199))
    assert out["status"].to_pylist() == ["too_large"]


def test_an_empty_batch_gives_an_empty_batch_with_the_schema() -> None:
    (out,) = featurize(iter([batch()]), MeanColour())
    assert out.num_rows == 0
    assert out.schema.equals(FEATURE_SCHEMA)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.binary(max_size=300), max_size=5))
def test_any_bytes_give_a_row_and_never_an_exception(contents: list[bytes]) -> None:
    assert len(run(batch(*contents))) == len(contents)


@given(st.lists(st.booleans(), max_size=20))
def test_the_list_array_has_vectors_for_ok_rows_only(ok: list[bool]) -> None:
    vectors = np.arange(2 * sum(ok), dtype=np.float32).reshape(-1, 2)
    result = iter(vectors.tolist())
    assert vectors_array(ok, vectors).to_pylist() == [next(result) if good else None for good in ok]


def test_identical_bytes_are_computed_once() -> None:
    runtime = MeanColour()
    first = run(batch(red(9), red(7), red(9), b"no image", b"no image"), runtime=runtime)
    assert [row["status"] for row in first] == ["ok"] * 3 + ["unsupported"] * 2
    assert runtime.calls == [1, 1]
    assert first[2]["features"] == first[0]["features"] != first[1]["features"]
    assert {**first[4], "path": ""} == {**first[3], "path": ""}


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
@given(levels=st.lists(st.integers(0, 3), max_size=12))
def test_copies_change_no_row_for_any_batch_size(batch_size: int, levels: list[int]) -> None:
    rows = run(batch(*(red(level) for level in levels)), runtime=MeanColour(batch_size))
    assert [row["features"] for row in rows] == [[level, 0, 0] for level in levels]


def test_the_dedup_cache_is_bounded() -> None:
    cache = Seen()
    for n in range(10_000):
        cache.add(Row(sha256=str(n), vector=np.zeros(1280, np.float32)))
    assert cache.find("0") is None
    assert cache.find("9999") is not None
    assert len(cache._known) == 16 * 2**20 // (1280 * 4 + 1024)


def test_a_vector_larger_than_the_dedup_cache_is_not_cached() -> None:
    cache = Seen()
    cache.add(Row(sha256="huge", vector=np.zeros(16 * 2**18, np.float32)))
    assert cache.find("huge") is None
    cache.add(Row(sha256="small", vector=np.zeros(3, np.float32)))
    assert cache.find("small") is not None


def test_broken_images_are_freed_immediately_without_the_garbage_collector() -> None:
    rng = np.random.default_rng(0)
    cut_off = [
        drawn.encode(Image.fromarray(rng.integers(0, 256, (400, 400, 3), np.uint8)), "PNG")[:-9000]
        for _ in range(12)
    ]
    batches = [batch(content) for content in cut_off]
    run(batches[0])  # imports Pillow's plugin
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        assert {row["status"] for row in run(*batches)} == {"truncated"}
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert held < 2 * len(cut_off[0])
