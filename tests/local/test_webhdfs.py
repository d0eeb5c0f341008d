"""Images and tables on HDFS without a JVM, over WebHDFS. Run by `make test-stores`."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hdfs_server
import pomona
import tables
from pomona.errors import SourceError
from pomona.io.file_systems import arrow_system
from pomona.job.summary import Summary

pytest.importorskip("fsspec", reason="webhdfs:// needs fsspec: pip install '.[hdfs]'")

Run = Callable[..., Summary]


@pytest.fixture(scope="module")
def hdfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running HDFS."""
    with hdfs_server.serving(tmp_path_factory.mktemp("hdfs")) as server:
        os.environ["HADOOP_USER_NAME"] = getpass.getuser()  # the owner of its folders
        yield server.web
        del os.environ["HADOOP_USER_NAME"]


def put(folder: Path, uri: str) -> None:
    system, base = arrow_system(uri)
    for file in folder.rglob("*"):
        if file.is_file():
            name = f"{base}/{file.relative_to(folder).as_posix()}"
            with system.open_output_stream(name) as target:
                target.write(file.read_bytes())


def test_images_on_hdfs_have_the_rows_of_images_here(
    hdfs: str, run: Run, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "100 % #1?.jpg").write_bytes((pictures / ".hidden.jpg").read_bytes())
    put(pictures, f"{hdfs}/pictures")
    summary = run(f"{hdfs}/pictures", tmp_path / "far")
    run(pictures, tmp_path / "near")
    assert summary.ok == 12
    far, near = tables.read(tmp_path / "far"), tables.read(tmp_path / "near")
    above = f"file:{pictures}"
    names = [path.removeprefix(above) for path in near["path"].to_pylist()]
    assert far["path"].to_pylist() == [f"{hdfs}/pictures{name}" for name in names]
    for column in ("features", "status", "size", "label", "content_sha256"):
        assert far[column].equals(near[column]), column
    assert far["modified"].null_count == 0
    assert run(f"{hdfs}/pictures", tmp_path / "far").ok == 0  # nothing has changed
    assert run(f"{hdfs}/pictures/Apple*/*.jpg", tmp_path / "some").ok == 2
    with pytest.raises(SourceError, match="webhdfs://.*/nothing does not exist"):
        run(f"{hdfs}/nothing", tmp_path / "none")


def test_a_table_on_hdfs_is_continued(hdfs: str, run: Run, pictures: Path) -> None:
    table = f"{hdfs}/features"
    first = run(pictures, table)
    assert (first.ok, first.failed) == (11, 3)
    assert run(pictures, table).ok == 0
    next(pictures.rglob("*.webp")).unlink()
    run(pictures, table, resume=pomona.Resume(prune=True))
    assert len(pomona.read_features(table).paths) == 10
