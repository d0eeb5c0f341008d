"""No Pomona process sends telemetry, although several imported libraries would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from network_files import small_network
from places import TESTS

ASK = """
import sys
{code}
print([name for name in sys.modules if name.startswith("openvino_telemetry")])
"""

# Each entry has code that imports what such a process imports, and the files that it may write to
# the home folder: matplotlib's font list, and Keras' settings.
FONTS, KERAS = ".cache/matplotlib/fontlist-", ".keras/keras.json"
LIBRARIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "a worker on OpenVINO": (
        "import numpy as np, pomona\n"
        "from pomona.runtime.registry import runtime_for\n"
        "from pomona.runtime.parity import probe_vectors\n"
        "probe_vectors(runtime_for(pomona.Encoder.load({encoder!r})))",
        (),
    ),
    "a worker on ONNX Runtime": (
        "from pathlib import Path\n"
        "from pomona.runtime.onnxruntime import gpu_is_here, new_session\n"
        "gpu_is_here()\n"
        "new_session(Path({onnx!r}).read_bytes(), 'it')",
        (),
    ),
    "a builder with Keras": (
        "from pomona.building.keras.applications import build\n"
        "build('mobilenet_v2_035', 'untrained:0')",
        (FONTS, KERAS),
    ),
    "a builder of ONNX files": (
        "from pathlib import Path\n"
        "from pomona.building.network_files import build\n"
        "from pomona.building.network_settings import NetworkSettings\n"
        "settings = NetworkSettings(resize_mode='squash', scale=1)\n"
        "build(Path({onnx!r}), settings, runtime='onnxruntime')",
        (FONTS, KERAS),
    ),
    "a builder with NNCF": (
        "from pomona.building.quantize.nncf_process import answer\n"
        "from pomona.errors import EncoderError\n"
        "try:\n"
        "    answer({{'encoder': '/nowhere'}})\n"
        "except EncoderError:\n"
        "    import nncf",
        (),
    ),
    "the text tower": (
        "from pomona.runtime.text import open_tokenizer\n"
        "from pathlib import Path\n"
        "open_tokenizer(Path({tokenizer!r}).read_bytes(), 'it').encode('a')",
        (),
    ),
    "the analyses": (
        "import pyarrow.parquet, scipy, sklearn.linear_model, sklearn.manifold, faiss, pandas\n"
        "import pomona.analysis.neighbours.faiss_index, pomona.analysis.figures.style\n"
        "import pomona.analysis.classifier.training\n"
        "import matplotlib\n"
        "matplotlib.use('Agg')\n"
        "import matplotlib.pyplot",
        (FONTS,),
    ),
    "the Spark engine": (
        "import pyspark.sql, pomona.spark.run, pomona.spark.dataframe.transformer",
        (),
    ),
}

FIRST_WITH_A_DEVICE_ID = "1.29"  # ONNX Runtime writes none before this version

# Records what Python opens, and finally what native code has opened: connections of this process
# to another machine.
WATCH = """
import atexit, os, socket, sys
from ipaddress import ip_address

def told(event, args):
    where = None
    if event == "socket.connect" and isinstance(args[1], tuple):
        where = args[1][0]
    elif event == "socket.getaddrinfo":
        where = args[0]
    if where not in (None, "", "localhost", "127.0.0.1", "::1"):
        print("REACHED", where, file=sys.stderr)

sys.addaudithook(told)

def look():
    own = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
           if os.path.lexists(f"/proc/self/fd/{fd}")}
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in open(f"/proc/self/net/{table}").read().splitlines()[1:]:
            words = line.split()
            address = bytes.fromhex(words[2].split(":")[0])
            words_of_four = [address[i:i + 4][::-1] for i in range(0, len(address), 4)]
            peer = ip_address(b"".join(words_of_four))
            local = peer.is_loopback or peer.is_unspecified
            if f"socket:[{words[9]}]" in own and not local:
                print("REACHED", peer, file=sys.stderr)

if os.path.isdir("/proc/self/net"):
    atexit.register(look)
"""


def loaded_after(code: str) -> str:
    completed = subprocess.run(
        [sys.executable, "-c", ASK.format(code=code)],
        env={
            **os.environ,
            "CI": "true",
        },  # the reporting package is loaded there too, but stays silent
        capture_output=True,
        text=True,
        check=True,
    )
    return completed.stdout.splitlines()[-1]


def run_at_home(home: Path, code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code with an empty home folder, without the variables that silence libraries."""
    watch = home.parent / "watch"
    watch.mkdir(exist_ok=True)
    (watch / "sitecustomize.py").write_text(WATCH)
    home.mkdir()
    quiet = ("CI", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "MPLCONFIGDIR", "KERAS_HOME")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in quiet and not name.startswith("XDG_")
    }
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, "HOME": str(home), "PYTHONPATH": str(watch), **variables},
        capture_output=True,
        text=True,
        check=True,
    )


def files_in(home: Path) -> list[str]:
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime")
    from onnx import helper

    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["vector"]),
    ]
    return small_network(tmp_path_factory.mktemp("onnx") / "small.onnx", *nodes)


@pytest.mark.parametrize("name", LIBRARIES)
def test_no_import_of_pomona_writes_an_id_or_connects(
    name: str, tmp_path: Path, onnx_file: Path, encoder_file: Path
) -> None:
    if name == "the Spark engine":
        pytest.importorskip("pyspark", reason="the Spark engine needs PySpark")
    code, may_write = LIBRARIES[name]
    home = tmp_path / "home"
    tokenizer = TESTS / "goldens" / "text" / "clip" / "tokenizer.json"
    files = {"onnx": onnx_file, "encoder": encoder_file, "tokenizer": tokenizer}
    completed = run_at_home(home, code.format(**{name: str(file) for name, file in files.items()}))
    assert [file for file in files_in(home) if not file.startswith(may_write)] == []
    assert "REACHED" not in completed.stderr


def test_the_monitor_detects_connections_of_python_and_of_native_code(tmp_path: Path) -> None:
    # A UDP socket gets a peer without sending a packet; 192.0.2.1 is reserved for documentation.
    code = "import ctypes, socket, struct\ns = socket.socket(type=socket.SOCK_DGRAM)\n{}\n"
    native = (
        "ctypes.CDLL(None).connect(s.fileno(), struct.pack('<H', 2) + struct.pack('>H', 9)"
        " + bytes([192, 0, 2, 1]) + bytes(8), 16)"
    )
    from_python = run_at_home(tmp_path / "a", code.format("s.connect(('192.0.2.1', 9))"))
    assert "REACHED 192.0.2.1" in from_python.stderr
    assert "REACHED 192.0.2.1" in run_at_home(tmp_path / "b", code.format(native)).stderr


def test_onnx_runtime_alone_writes_a_device_id(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", minversion=FIRST_WITH_A_DEVICE_ID)
    run_at_home(tmp_path / "home", "import onnxruntime")
    assert any("deviceid" in file for file in files_in(tmp_path / "home"))


def test_the_users_own_setting_for_onnx_runtime_is_respected(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", minversion=FIRST_WITH_A_DEVICE_ID)
    code = (
        "import os\n"
        "from pomona.runtime.onnxruntime import import_onnxruntime\n"
        "import_onnxruntime()\n"
        "print(os.environ.get('ORT_DISABLE_TELEMETRY'))"
    )
    result = run_at_home(tmp_path / "a", code, ORT_DISABLE_TELEMETRY="0")
    assert result.stdout == "0\n"
    assert any("deviceid" in file for file in files_in(tmp_path / "a"))
    assert run_at_home(tmp_path / "b", code).stdout == "None\n"
    assert files_in(tmp_path / "b") == []


def test_openvino_alone_reports_its_import() -> None:
    assert "openvino_telemetry.main" in loaded_after("import openvino")


@pytest.mark.parametrize(
    "code",
    [
        "from pomona.runtime.openvino import import_openvino; import_openvino()",
        "from pomona.building.keras.applications import build; "
        "build('mobilenet_v2_035', 'untrained:0')",
    ],
)
def test_neither_running_nor_building_an_encoder_loads_the_telemetry_package(code: str) -> None:
    assert loaded_after(code) == "[]"


def test_the_telemetry_package_still_works_for_a_caller_that_imports_it() -> None:
    code = "from pomona.runtime.openvino import import_openvino; import_openvino()\n"
    assert "openvino_telemetry" in loaded_after(f"{code}import openvino_telemetry")
