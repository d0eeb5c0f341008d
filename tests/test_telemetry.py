"""No process of Pomona's reports to anybody: OpenVINO, NNCF and Keras' backend would."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ASK = """
import sys
{code}
print([name for name in sys.modules if name.startswith("openvino_telemetry")])
"""


def loaded_after(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", ASK.format(code=code)],
        env={**os.environ, "CI": "true"},  # what reports is loaded there all the same, and silent
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[-1]


def test_openvino_would_report_its_import() -> None:
    assert "openvino_telemetry.main" in loaded_after("import openvino")


@pytest.mark.parametrize(
    "code",
    [
        "from pomona.runtime.openvino import import_openvino; import_openvino()",
        "from pomona.building.keras_build import build; build('mobilenet_v2_035', 'untrained:0')",
    ],
)
def test_neither_running_nor_building_an_encoder_loads_what_reports(code: str) -> None:
    assert loaded_after(code) == "[]"


def test_a_callers_own_import_of_the_package_that_reports_still_works() -> None:
    code = "from pomona.runtime.openvino import import_openvino; import_openvino()\n"
    assert "openvino_telemetry" in loaded_after(f"{code}import openvino_telemetry")
