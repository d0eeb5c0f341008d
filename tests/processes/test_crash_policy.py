"""The cause of a worker process's death: the same rule on both engines."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pomona.errors import RunError
from pomona.processes.crash_policy import ENDS_IN_A_ROW, STRIKES, CrashPolicy, canary_image


def test_an_image_that_ends_two_processes_is_the_cause():
    policy = CrashPolicy()
    assert not policy.is_suspect("a")
    assert not policy.ended_over(["a"])
    assert policy.is_suspect("a")
    assert policy.ended_over(["a"])


def test_images_in_one_batch_are_all_suspects_and_none_is_the_cause_yet():
    policy = CrashPolicy()
    assert not policy.ended_over(["a", "b"])
    assert policy.is_suspect("b")
    assert not policy.ended_over(["b", "c"])
    assert policy.ended_over(["b"])


@given(st.lists(st.booleans(), max_size=60))
def test_the_canary_is_due_exactly_if_consecutive_processes_end_with_no_image_done(ends):
    policy = CrashPolicy()
    in_a_row = 0
    for number, ended in enumerate(ends):
        if ended:
            policy.ended_over([number])
            in_a_row += 1
        else:
            policy.done()
            in_a_row = 0
        assert policy.needs_canary == (in_a_row >= ENDS_IN_A_ROW)


def test_a_process_that_ends_on_the_canary_is_included_in_the_reported_count():
    policy = CrashPolicy()
    for number in range(ENDS_IN_A_ROW):
        policy.ended_over([number])
    message = str(policy.ended_over_canary("the process was ended by SIGKILL"))
    assert message.startswith(f"{ENDS_IN_A_ROW + 1} worker processes in a row ended")
    assert "SIGKILL" in message


def test_repeated_deaths_without_an_image_end_the_run_unless_rows_are_kept_in_between():
    policy = CrashPolicy(starts_in_a_row=3)
    for _ in range(2):
        policy.ended_over_no_image("memory is short")
    policy.done()  # images without a row in the table do not count
    policy.kept()
    for _ in range(2):
        policy.ended_over_no_image("memory is short")
    policy.done()
    with pytest.raises(RunError, match="3 worker processes in a row ended, .* memory is short"):
        policy.ended_over_no_image("memory is short")


def test_the_canary_is_a_picture_that_pillow_can_read():
    with Image.open(io.BytesIO(canary_image())) as image:
        image.load()
        assert image.format == "JPEG"
    assert STRIKES > 1
