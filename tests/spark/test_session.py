"""Starting Spark: it respects the machine's settings, and its log goes where Pomona says."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pomona.spark import signals
from pomona.spark.session.local_settings import has_java_options, master_in_settings

pytest.importorskip("pyspark", reason="the Spark engine needs PySpark")


@pytest.fixture
def defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of Spark's defaults file, not written yet, on a machine without other settings."""
    for name in ("PYSPARK_SUBMIT_ARGS", "JAVA_TOOL_OPTIONS", "SPARK_SUBMIT_OPTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    return tmp_path / "spark-defaults.conf"


@pytest.mark.parametrize(
    ("written", "master"),
    [
        ("spark.master spark://host:7077\n", "spark://host:7077"),
        ("spark.ui.enabled false\n  spark.master=yarn", "yarn"),
        ("spark.master : local[4]", "local[4]"),
        ("# spark.master yarn\nspark.master.rest.enabled true", None),
        ("", None),
    ],
)
def test_a_master_in_sparks_defaults_is_found(
    defaults: Path, written: str, master: str | None
) -> None:
    defaults.write_text(written)
    assert master_in_settings() == master


@pytest.mark.parametrize("arguments", ["--master yarn pyspark-shell", "--conf spark.master=yarn x"])
def test_a_master_in_the_arguments_overrides_the_defaults(
    defaults: Path, monkeypatch: pytest.MonkeyPatch, arguments: str
) -> None:
    defaults.write_text("spark.master local[2]")
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", arguments)
    assert master_in_settings() == "yarn"


def test_settings_that_may_hold_java_options_are_detected(
    defaults: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not has_java_options()
    with monkeypatch.context() as patched:
        patched.setenv("JAVA_TOOL_OPTIONS", "-XX:+UseG1GC")
        assert has_java_options()
    defaults.write_text("spark.driver.extraJavaOptions -XX:+UseG1GC")
    assert has_java_options()


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program that starts Spark."""
    if shutil.which("java") is None:
        pytest.skip("no Java on this machine")
    variables = {**os.environ, "PYTHONPATH": ":".join(sys.path), **environment}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.spark
def test_java_options_in_sparks_defaults_apply_and_no_log_is_left(
    defaults: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    temporary = tmp_path_factory.mktemp("temporary")
    defaults.write_text("spark.driver.extraJavaOptions -XX:+UseG1GC -Dof.the.user=kept")
    program = """
from pomona.spark.session.session import session

with session(None, None) as spark:
    print(spark.sparkContext._jvm.System.getProperty("of.the.user"), spark.range(3).count())
"""
    completed = run(program, SPARK_CONF_DIR=str(defaults.parent), TMPDIR=str(temporary))
    assert completed.stdout == "kept 3\n", completed.stderr
    assert not list(temporary.glob("*.log"))


@pytest.mark.spark
def test_a_jvm_that_dies_hides_no_error_and_its_log_stays_where_the_message_says(
    tmp_path: Path,
) -> None:
    program = """
import logging, os, signal
from pomona.spark.session.session import session
from pomona.errors import RunError

logging.basicConfig()
with session(None, "local[1]"):
    pass
assert len(os.listdir(os.environ["TMPDIR"])) == 1  # the JVM goes on, and so does its log
try:
    with session(None, "local[1]") as spark:
        process = spark.sparkContext._gateway.proc
        process.send_signal(signal.SIGKILL)
        process.wait()
        raise RunError("Spark could not go on")
except RunError as error:
    print(error)
"""
    completed = run(program, TMPDIR=str(tmp_path))
    assert completed.stdout == "Spark could not go on\n", completed.stderr
    match = re.search("Spark's own log is in (.*)", completed.stderr)
    assert match, completed.stderr
    assert Path(match[1]).exists()


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_signals_are_held_until_the_jvm_has_started(
    number: signal.Signals, raised: type[BaseException]
) -> None:
    """Otherwise PySpark loses track of the JVM and waits forever."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = []

    def launch() -> None:
        with signals.delayed_signals():
            signal.raise_signal(number)
            started.append("the JVM")

    try:
        with pytest.raises(raised):
            launch()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert started
