"""A NameNode and a DataNode of Hadoop, which `make test-stores` fetches."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from cloud_servers import STORES
from places import TESTS


class Hdfs(NamedTuple):
    """Its addresses: for Hadoop, and for WebHDFS."""

    uri: str
    web: str


@contextmanager
def serving(folder: Path) -> Iterator[Hdfs]:
    """Start it; skip the test if it is missing."""
    pyspark = pytest.importorskip("pyspark", reason="the server of HDFS needs PySpark's jars")
    jars = sorted(STORES.glob("hadoop-client-minicluster-*.jar"))
    if not jars or shutil.which("java") is None:
        pytest.skip("hadoop-client-minicluster, a server of HDFS, is missing: run make test-stores")
    of_spark = Path(pyspark.__file__).parent / "jars" / "*"
    server = subprocess.Popen(
        [
            *("java", "-cp", f"{jars[-1]}{os.pathsep}{of_spark}"),
            *(TESTS / "HdfsServer.java", folder),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with server:
        assert server.stdin is not None
        assert server.stdout is not None
        lines = (line for line in server.stdout if line.startswith("listens on "))
        *_, uri, web = next(lines).split()
        yield Hdfs(uri, f"webhdfs://localhost:{web}")
        server.stdin.close()
        server.terminate()
