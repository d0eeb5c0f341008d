from __future__ import annotations

import threading

from pomona.local.image_queue import ImageQueue
from pomona.source.archives.member import Archive, Member, Packing
from pomona.source.image_file import ImageFile


def images(count: int) -> list[ImageFile]:
    return [ImageFile(f"/{number}.jpg", 1, 1) for number in range(count)]


def filled(count: int, workers: int = 2) -> ImageQueue:
    queue = ImageQueue(workers)
    queue.fill(images(count))
    return queue


def take_all(queue: ImageQueue) -> list[ImageFile]:
    """Take all chunks, like a worker that completes nothing yet."""
    taken: list[ImageFile] = []
    while chunk := queue.take(holds_work=True):
        taken += chunk
    return taken


def test_every_image_is_handed_out_once_across_threads() -> None:
    queue, got, lock = ImageQueue(4), [], threading.Lock()

    def work() -> None:
        while chunk := queue.take(holds_work=False):
            with lock:
                got.extend(chunk)
            queue.settle(len(chunk))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    queue.fill(images(5000))
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(got) == sorted(images(5000))


def test_chunks_get_smaller_towards_the_end() -> None:
    queue = filled(1000)
    sizes = []
    while chunk := queue.take(holds_work=True):
        sizes.append(len(chunk))
    assert sizes[0] == 64
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) == 1000


def test_a_suspect_is_retried_alone_and_first() -> None:
    queue = filled(20)
    chunk = take_all(queue)
    queue.give_back(chunk, [chunk[3]])
    assert queue.take(holds_work=False) == [chunk[3]]


def test_suspects_taken_together_are_retried_one_by_one() -> None:
    queue = filled(20)
    chunk = take_all(queue)
    queue.give_back(chunk, chunk[3:6])
    assert [queue.take(holds_work=False) for _ in range(3)] == [[each] for each in chunk[3:6]]
    assert len(queue.take(holds_work=False) or []) > 1


def test_a_worker_with_unsettled_work_gets_an_empty_chunk_if_the_queue_is_empty() -> None:
    queue = filled(5)
    assert len(take_all(queue)) == 5
    assert queue.take(holds_work=True) == []


def test_a_single_waiting_thread_can_be_woken() -> None:
    queue = filled(5)
    queue.wake()
    assert queue.take(holds_work=False) == []
    assert queue.take(holds_work=False) != []


def test_the_queue_ends_when_all_images_are_settled() -> None:
    queue = filled(5)
    queue.settle(len(take_all(queue)))
    assert queue.take(holds_work=False) is None


def test_an_idle_thread_waits_for_images_that_another_may_return() -> None:
    queue = filled(5)
    chunk = take_all(queue)
    got: list[list[ImageFile] | None] = []
    idle = threading.Thread(target=lambda: got.append(queue.take(holds_work=False)))
    idle.start()
    queue.give_back(chunk)
    idle.join(timeout=30)
    assert got == [chunk[:2]]


def test_a_few_images_are_distributed_over_all_workers() -> None:
    queue = filled(8)
    assert [len(queue.take(holds_work=True) or []) for _ in range(4)] == [2, 2, 2, 2]


def test_stopping_wakes_all_waiting_threads() -> None:
    queue = ImageQueue(1)
    idle = threading.Thread(target=lambda: queue.take(holds_work=False))
    idle.start()
    queue.stop()
    idle.join(timeout=30)
    assert not idle.is_alive()


def test_the_total_is_known_once_the_listing_has_ended() -> None:
    queue = ImageQueue(1)
    assert queue.total is None
    queue.fill(images(3))
    assert queue.total == 3


def test_images_of_a_compressed_tar_file_are_handed_out_in_large_chunks_of_one_file() -> None:
    def in_stream(archive: str, number: int) -> ImageFile:
        place = Member(Archive(archive, 1, 1), number, 1, Packing.IN_STREAM, 1)
        return ImageFile(f"file:{archive}::{number}.jpg", 1, 1, place)

    queue = ImageQueue(2)
    packed = [in_stream(archive, number) for archive in "ab" for number in range(1000)]
    queue.fill([*packed, *images(100)])
    assert take_all(queue)[: len(packed)] == packed
    queue = ImageQueue(2)
    queue.fill([*packed, *images(100)])
    sizes = []
    while chunk := queue.take(holds_work=True):
        sizes.append(len(chunk))
        assert len({file.path.partition("::")[0] for file in chunk}) == 1 or chunk[0].place is None
    assert sizes[:2] == [1000, 550]
    assert max(sizes[4:]) <= 64 * 4
