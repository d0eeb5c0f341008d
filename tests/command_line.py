"""Run command lines in the process of the tests."""

from __future__ import annotations

import pytest

from pomona.cli.main import main


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of a command line."""
    with pytest.raises(SystemExit) as exit_info:
        main([str(argument) for argument in arguments])
    out, err = capfd.readouterr()
    return int(exit_info.value.code or 0), out, err
