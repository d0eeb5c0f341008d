"""Library output during decoding is silenced, and no other output is lost."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
import warnings

import pytest

from decoding import FILES, failure
from pomona.errors import ImageError
from pomona.worker.decode import decode
from pomona.worker.pillow_limits import quiet_codecs

NOISY = FILES["TIFF in LZW strips"][:8] + bytes(40) + FILES["TIFF in LZW strips"][48:]


def test_libtiff_prints_outside_of_quiet_codecs_and_not_inside(capfd):
    failure(NOISY)
    assert capfd.readouterr().err
    with quiet_codecs():
        failure(NOISY)
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"


def test_an_exception_ends_quiet_codecs(capfd):
    with pytest.raises(KeyError), quiet_codecs():
        raise KeyError
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"


def test_quiet_codecs_ends_with_its_last_thread(capfd):
    entered, leave = threading.Event(), threading.Event()

    def inside() -> None:
        with quiet_codecs():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=inside)
    with quiet_codecs():
        thread.start()
        assert entered.wait(10)
    os.write(2, b"lost")
    leave.set()
    thread.join()
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"


def test_warnings_as_errors_have_no_effect_inside_quiet_codecs():
    icon = bytearray(FILES["ICO"])
    icon[6] = 47  # Pillow warns that the image does not have the expected size
    with pytest.raises(ImageError):
        decode(bytes(icon))
    with quiet_codecs():
        assert decode(bytes(icon)).width == 48
        with pytest.raises(UserWarning, match="not Pillow"):
            warnings.warn("not Pillow's", stacklevel=1)


QUIET_SCRIPT = """
import os, sys
from pomona.worker.decode import decode
from pomona.errors import ImageError
from pomona.worker.pillow_limits import quiet_codecs
content = sys.stdin.buffer.read()
if sys.argv[1] == "closed":
    os.close(2)
for _ in range(3):
    with quiet_codecs():
        try:
            decode(content)
        except ImageError as error:
            print(error.status)
try:
    os.write(2, b"heard again")
except OSError:
    print("still closed")
"""


def quiet_process(content: bytes, how: str) -> tuple[list[str], str]:
    completed = subprocess.run(
        [sys.executable, "-c", QUIET_SCRIPT, how], input=content, capture_output=True, check=True
    )
    return completed.stdout.decode().split("\n")[:-1], completed.stderr.decode()


def test_quiet_codecs_works_with_a_closed_descriptor_2():
    assert quiet_process(NOISY, "closed") == (["corrupt"] * 3 + ["still closed"], "")


def test_pillows_log_does_not_reach_the_terminal():
    content = bytearray(FILES["TIFF"])
    # Pillow logs that there are too many samples.
    at = content.index(struct.pack("<HHIH", 277, 3, 1, 3)) + 8
    content[at : at + 2] = struct.pack("<H", 60000)
    assert quiet_process(bytes(content), "open") == (["corrupt"] * 3, "heard again")
