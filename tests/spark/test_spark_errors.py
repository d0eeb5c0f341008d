"""A failure in Spark is reported in one line: the cause, and what to do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyspark", reason="the Spark engine needs PySpark")

from pyspark.sql import SparkSession

import pomona
import tables
from pomona.encoder.encoder import Encoder
from pomona.errors import EngineError
from pomona.spark.errors import cause_in_log, cause_of
from pomona.spark.session import session as spark_session

CALLED = "An error occurred while calling None.org.apache.spark.api.java.JavaSparkContext.\n"
STACK = "\tat a.b.c(D.java:1)\n\tat a.b.e(D.java:2)\n"


@pytest.mark.parametrize(
    ("story", "cause"),
    [
        (
            "An exception was thrown from the Python worker:\nTraceback (most recent call last):\n"
            '  File "x.py", line 1\n    f()\npomona.errors.EncoderError: no such processor\n'
            "\n\tat org.apache.spark.api.python.Base\n\t... 27 more\n",
            "no such processor",
        ),
        (
            "Job aborted due to stage failure\n\tat a.b\nCaused by: java.io.EOFException: early"
            "\n\tat c.d\n\t... 27 more\n",
            "java.io.EOFException: early",
        ),
        ("Job 0 cancelled", "Job 0 cancelled"),
        (  # as the client of Spark Connect reports it
            "(a.b.NoSystemException) No FileSystem\n\n"
            f"JVM stacktrace:\na.b.NoSystemException\n{STACK}",
            "(a.b.NoSystemException) No FileSystem",
        ),
        ("", ""),
        (  # py4j's own line describes a call, not a cause
            f"{CALLED}: java.net.BindException: Cannot assign requested address\n{STACK}",
            "java.net.BindException: Cannot assign requested address",
        ),
        (  # the innermost exception says less than its wrapper
            f"{CALLED}: a.ClientException: An error has occurred.\n{STACK}"
            f"Caused by: java.io.IOException: Connection refused: /127.0.0.1:1\n{STACK}"
            f"Caused by: java.net.ConnectException: Connection refused\n{STACK}\t... 9 more\n",
            "java.io.IOException: Connection refused: /127.0.0.1:1",
        ),
        (  # the wrapper adds only its own class
            f"{CALLED}: java.lang.RuntimeException: java.lang.IllegalStateException: off\n{STACK}"
            f"Caused by: java.lang.IllegalStateException: off\n{STACK}",
            "java.lang.IllegalStateException: off",
        ),
        (  # a message with two lines
            f"{CALLED}: a.ArgumentException: Insufficient memory:\nat least 471\n{STACK}",
            "a.ArgumentException: Insufficient memory: at least 471",
        ),
    ],
)
def test_the_cause_is_extracted_from_sparks_stack_trace(story: str, cause: str) -> None:
    assert cause_of(story) == cause


@pytest.mark.parametrize(
    ("cause", "advice"),
    [
        ('No FileSystem for scheme "s3"', r"write s3a:// .*hadoop-aws:\d+\.\d+\.\d+$"),
        ('No FileSystem for scheme "s3n"', r"write s3a:// .*hadoop-aws:\d+\.\d+\.\d+$"),
        ('No FileSystem for scheme "gs"', "--packages or --jars"),
        ("Class org.apache.hadoop.fs.s3a.S3AFileSystem not found", r"hadoop-aws:\d+\.\d+\.\d+"),
        ("Class org.apache.hadoop.fs.azurebfs.SecureAzureBlobFileSystem not found", "--packages"),
        ("ModuleNotFoundError: No module named 'openvino'", "PYSPARK_PYTHON.*--archives"),
        ("[PYTHON_VERSION_MISMATCH] Python in worker has different version", "PYSPARK_PYTHON"),
        ('java.io.IOException: Cannot run program "python3": error=2', "PYSPARK_PYTHON"),
    ],
)
def test_a_known_cause_comes_with_advice(cause: str, advice: str) -> None:
    result = cause_of(cause)
    assert result.startswith(f"{cause}; ")
    assert re.search(advice, result.removeprefix(cause))


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        ("", ""),
        (
            "WARNING: Using incubator modules\nError occurred during initialization of VM\n"
            "Could not reserve enough space for 9KB object heap\n",
            "Error occurred during initialization of VM Could not reserve enough space for 9KB "
            "object heap",
        ),
        (
            "Invalid maximum heap size: -Xmxabc\n"
            "Error: Could not create the Java Virtual Machine.\n"
            "Error: A fatal exception has occurred. Program will exit.\n",
            "Invalid maximum heap size: -Xmxabc",
        ),
        (
            'Using Spark\'s default log4j profile\nException in thread "main" '
            f"org.apache.spark.SparkException: HADOOP_CONF_DIR must be set.\n{STACK}",
            "org.apache.spark.SparkException: HADOOP_CONF_DIR must be set.",
        ),
        (
            "Error: LinkageError occurred while loading main class a.B\n\t"
            "java.lang.UnsupportedClassVersionError: a/B has been compiled by a newer Java\n",
            "Error: LinkageError occurred while loading main class a.B "
            "java.lang.UnsupportedClassVersionError: a/B has been compiled by a newer Java; Spark "
            "needs Java 17 or later: set JAVA_HOME to one",
        ),
    ],
)
def test_the_cause_is_found_in_the_log_of_a_jvm_that_did_not_start(log: str, cause: str) -> None:
    assert cause_in_log(log) == cause


@pytest.mark.spark
@pytest.mark.parametrize("scheme", ["s3", "s3a", "abfss"])
def test_a_file_system_that_spark_lacks_is_named_with_a_remedy(
    spark: SparkSession, encoder: Encoder, tmp_path: Path, scheme: str
) -> None:
    with pytest.raises(EngineError) as refusal:
        pomona.extract(
            f"{scheme}://bucket/x",
            tmp_path / "t",
            encoder=encoder,
            engine=pomona.SparkEngine(spark=spark),
        )
    assert "An error occurred" not in str(refusal.value)
    assert "--packages" in str(refusal.value)
    assert ("hadoop-aws" in str(refusal.value)) == scheme.startswith("s3")


def _run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("java") is None:
        pytest.skip("no Java on this machine")
    variables = {**os.environ, **environment}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


START = """
from pomona.spark.errors import spark_errors
from pomona.spark.session.session import session
from pomona.errors import PomonaError, RunError
from pomona.io.location import without_password

try:
    with session(None, "local[1]") as spark, spark_errors(RunError, "Spark could not go on"):
        spark.sparkContext.parallelize(["a"], 1).map(without_password).collect()
except PomonaError as error:
    print(error)
"""


def test_a_java_home_without_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark_session, "active_session", lambda: None)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(EngineError, match=f"JAVA_HOME is {tmp_path}, which has no bin/java: "):
        spark_session.check_spark(None, "local[1]")


@pytest.mark.spark
def test_the_error_of_a_java_that_does_not_start_is_quoted(tmp_path: Path) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    message = "Error: Could not create the Java Virtual Machine."
    java.write_text(f"#!/bin/sh\necho '{message}' >&2\nexit 1")
    java.chmod(0o755)
    output = _run(START, JAVA_HOME=str(tmp_path), TMPDIR=str(tmp_path)).stdout
    assert f"({message}" in output
    assert "its log is in" in output


@pytest.mark.spark
def test_the_error_for_a_setting_that_spark_refuses_is_quoted(tmp_path: Path) -> None:
    settings = "--conf spark.executor.memory=10m pyspark-shell"
    output = _run(START, PYSPARK_SUBMIT_ARGS=settings, TMPDIR=str(tmp_path)).stdout
    assert "Executor memory 10485760 must be at least" in output
    assert "An error occurred" not in output


@pytest.mark.spark
def test_workers_without_pomona_are_distinguished_from_other_failures(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # without its packages
    python.chmod(0o755)
    output = _run(START, PYSPARK_PYTHON=str(python), PYTHONPATH="", TMPDIR=str(tmp_path)).stdout
    assert "ModuleNotFoundError: No module named 'pomona'" in output
    assert "PYSPARK_PYTHON" in output
    assert "--archives" in output


@pytest.mark.spark
def test_encoder_and_table_on_a_hadoop_only_file_system_are_read_through_pysparks_jvm(
    tmp_path: Path, encoder: Encoder
) -> None:
    encoder.save(tmp_path / "fruit.encoder")
    tables.write(tmp_path / "table", [[1.0, 2.0]] * 3, ["a", "b", None])
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "core-site.xml").write_text(
        "<configuration><property><name>fs.viewfs.mounttable.test.link./data</name>"
        f"<value>file://{tmp_path}</value></property></configuration>"
    )
    program = """
import pomona
from pomona.analysis.inspection import inspect
from pomona.encoder.encoder import Encoder
from pomona.spark.encoder_transport import open_encoder
from pomona.errors import EncoderError

found, location = open_encoder("viewfs://test/data/fruit.encoder", None)
print(found.fingerprint, location)
print(inspect(pomona.FeatureTable.at("viewfs://test/data/table")).rows)
try:
    Encoder.load("viewfs://test/data/none")
except EncoderError as error:
    print(error)
"""
    completed = _run(program, HADOOP_CONF_DIR=str(tmp_path / "conf"))
    first, second, third = completed.stdout.splitlines()
    assert first == f"{encoder.fingerprint} None", completed.stderr  # None: sent to the workers
    assert second == "3"
    assert third.startswith("cannot read the encoder viewfs://test/data/none")
    assert "FileNotFoundException" in third
