"""Images and tables in Azure's and Google's storage, on the embedded engine."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pytest
from pyarrow.fs import FileSelector

import drawn
import pomona
import tables
from cloud_servers import Cloud, azure, azurite, google
from command_line import run as run_command
from faulty_server import INTERNAL_ERROR, SLOW_DOWN, Answer, Request
from pomona.errors import RunError, SourceError, TableError
from pomona.io import file_systems, remote
from pomona.job.changes import Changes
from pomona.job.summary import Summary

__all__ = ["azure", "azurite", "google"]

Run = Callable[..., Summary]


@pytest.fixture(params=["azure", "google"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    store: Cloud = request.getfixturevalue(request.param)
    return store


def reads(request: Request, name: str) -> bool:
    """Whether a request looks at one object, or reads it."""
    return name in unquote(request.path) and not request.query.startswith("prefix=")


def test_rows_equal_those_of_a_folder_and_a_second_run_does_nothing(
    cloud: Cloud, run: Run, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "odd ü%41+.jpg").write_bytes(drawn.encode(drawn.picture(seed=9), "JPEG"))
    cloud.put_folder(pictures, "my stuff/pictures")
    near, far = tmp_path / "near", tmp_path / "far"
    run(pictures, near)
    summary = run(cloud.uri("my stuff/pictures"), far)
    again = run(cloud.uri("my stuff/pictures/"), far)
    top = cloud.top.replace("anonymous@", "")
    assert tables.without_place(
        tables.read(far), f"{top}/my stuff/pictures"
    ) == tables.without_place(tables.read(near), f"file:{pictures}")
    assert (summary.files, again.skipped, again.ok) == (15, 15, 0)
    assert None not in tables.read(far)["modified"].to_pylist()


def test_changed_failed_and_deleted_objects_are_handled_like_files(
    cloud: Cloud, run: Run, pictures: Path, tmp_path: Path
) -> None:
    cloud.put_folder(pictures, "photos")
    table = tmp_path / "features"
    run(cloud.uri("photos"), table)
    cloud.put("photos/new.png", drawn.encode(drawn.picture(seed=50), "PNG"))
    cloud.put("photos/Apple Red 1/image 3.jpg", drawn.encode(drawn.picture(seed=51), "JPEG"))
    cloud.delete("photos/Apple Red 1/image 1.png")
    again = pomona.Resume(retry_failed=True, prune=True)
    done = run(cloud.uri("photos"), table, resume=again)
    assert done.changes == Changes(1, 1, 3, 9, 1, 1, labelled=14)


@pytest.mark.parametrize(
    ("glob", "chosen"),
    [
        ("photos/a/1.png", ["a/1.png"]),
        ("photos/*/1.png", ["a/1.png", "b/1.png"]),
        ("photos/{a,c}", ["a/1.png", "a/deep/2.png", "c/3.png"]),
        ("photos/**/[23].png", ["a/deep/2.png", "c/3.png"]),
    ],
)
def test_files_and_globs_choose_among_objects(
    cloud: Cloud, run: Run, tmp_path: Path, glob: str, chosen: list[str]
) -> None:
    picture = drawn.encode(drawn.picture(seed=1), "PNG")
    for name in ("a/1.png", "a/deep/2.png", "b/1.png", "c/3.png", "c/3.txt"):
        cloud.put(f"photos/{name}", picture)
    run(cloud.uri(glob), tmp_path / "features")
    found = tables.read(tmp_path / "features")["path"].to_pylist()
    assert sorted(path.partition("photos/")[2] for path in found) == chosen


def test_a_missing_or_forbidden_source_is_refused_with_one_line(
    cloud: Cloud, run: Run, tmp_path: Path
) -> None:
    cloud.put("notes/a.txt", b"text")
    refused: list[tuple[str, str, Answer | None]] = [
        (cloud.uri("photos"), "photos does not exist", None),
        (cloud.uri("photos", "missing"), "photos does not exist", None),
        (cloud.uri("notes"), "credentials", cloud.expired),
        (cloud.uri("notes"), "credentials", cloud.denied),
    ]
    for source, message, answer in refused:
        cloud.fault = answer_all(answer)
        with pytest.raises(SourceError, match=message) as caught:
            run(source, tmp_path / "features")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "features").exists()


def answer_all(answer: Answer | None) -> Callable[[Request], None]:
    def fault(_: Request) -> None:
        if answer:
            raise answer

    return fault


@pytest.mark.parametrize(
    "settings",
    [{"AZURE_STORAGE_KEY": "d3Jvbmc="}, {}, {"AZURE_STORAGE_SAS_TOKEN": "sv=2026-01-01&sig=d3Jv"}],
    ids=["wrong key", "no credentials", "wrong token"],
)
def test_wrong_credentials_of_azure_end_with_one_line(
    azure: Cloud,
    encoder_file: Path,
    tmp_path: Path,
    settings: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    azure.put("photos/a.png", drawn.encode(drawn.picture(seed=1), "PNG"))
    monkeypatch.delenv("AZURE_STORAGE_KEY")
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    arguments = ["extract", azure.uri("photos"), tmp_path / "features", "--encoder", encoder_file]
    code, _, error = run_command(capfd, *arguments)
    assert code == 2
    assert error.count("\n") == 1
    assert "check the credentials" in error


def test_the_key_of_an_azure_account_may_be_in_the_uri_and_never_reaches_the_table(
    azure: Cloud, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cloud_servers import KEY

    azure.put("photos/a.png", drawn.encode(drawn.picture(seed=1), "PNG"))
    monkeypatch.delenv("AZURE_STORAGE_KEY")
    key = KEY.replace("/", "%2F")
    source = azure.uri("photos").replace("bucket@", f"bucket:{key}@")
    assert run(source, tmp_path / "features").ok == 1
    assert tables.read(tmp_path / "features")["path"].to_pylist() == [f"{azure.top}/photos/a.png"]


def test_google_without_credentials_ends_with_one_line(
    google: Cloud, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    with pytest.raises(SourceError, match=r"missing\.json: check the credentials"):
        run(google.uri("photos").replace("anonymous@", ""), tmp_path / "features")


def test_throttling_errors_and_resets_lose_nothing(cloud: Cloud, run: Run, tmp_path: Path) -> None:
    for number in range(3):
        picture = drawn.encode(drawn.picture(seed=number), "PNG")
        cloud.put(f"photos/image {number}.png", picture)
    run(cloud.uri("photos"), tmp_path / "calm")
    seen: Counter[str] = Counter()

    def shaky(request: Request) -> None:
        if not reads(request, "image"):
            return
        seen[request.path] += 1
        kind = sum(map(ord, request.path)) % 3
        if seen[request.path] > 2:
            return
        if kind == 0:
            raise SLOW_DOWN
        if kind == 1:
            raise INTERNAL_ERROR
        request.reset()

    cloud.fault = shaky
    run(cloud.uri("photos"), tmp_path / "shaky")
    assert tables.read(tmp_path / "shaky").equals(tables.read(tmp_path / "calm"))
    assert max(seen.values()) > 2


def test_a_missing_or_forbidden_object_gets_a_row_that_says_so(
    cloud: Cloud, run: Run, pictures: Path, tmp_path: Path
) -> None:
    cloud.put_folder(pictures, "photos")
    gone: list[str] = []

    def hide(request: Request) -> None:
        if reads(request, "Apple Red 1/image 1.png") and not gone:
            gone.append("image 1.png")
            cloud.delete("photos/Apple Red 1/image 1.png")
        if reads(request, "image 3.jpg"):
            raise cloud.denied

    cloud.fault = hide
    run(cloud.uri("photos"), tmp_path / "features")
    rows = tables.rows(tmp_path / "features")
    assert rows["image 1.png"]["error"] == "cannot be read: it no longer exists"
    assert re.search("permission|403", rows["image 3.jpg"]["error"], re.IGNORECASE)
    assert len(rows) == 14


def test_credentials_that_expire_end_the_run_with_one_line(
    cloud: Cloud, run: Run, tmp_path: Path
) -> None:
    for number in range(40):
        picture = drawn.encode(drawn.picture(seed=number), "PNG")
        cloud.put(f"photos/{number:03}.png", picture)
    seen: Counter[str] = Counter()

    def expire(request: Request) -> None:
        seen["objects"] += reads(request, ".png")
        if seen["objects"] > 20:
            raise cloud.expired

    cloud.fault = expire
    with pytest.raises(RunError, match=r"no longer accepts requests.*run it again"):
        run(cloud.uri("photos"), tmp_path / "features")
    cloud.fault = lambda _: None
    run(cloud.uri("photos"), tmp_path / "features")
    assert tables.read(tmp_path / "features")["status"].to_pylist() == ["ok"] * 40


def rows(table: str) -> pa.Table:
    """The rows of a table, without when their files changed."""
    found = pa.Table.from_batches(list(pomona.FeatureTable.at(table).batches()))
    return found.drop_columns(["modified"]).sort_by("path").combine_chunks()


# The emulator of Google's storage serves no object that it copied.
def test_a_table_in_azure_is_continued_relabelled_and_replaced_like_one_on_a_disk(
    azure: Cloud, run: Run, pictures: Path, tmp_path: Path
) -> None:
    near, far = str(tmp_path / "near"), azure.uri("my tables/features")
    for table in (near, far):
        run(pictures, table)
    assert rows(far).equals(rows(near))
    assert run(pictures, far).skipped == 14
    (pictures / "Apple Red 1" / "image 1.png").unlink()
    for table in (near, far):
        run(pictures, table, resume=pomona.Resume(prune=True), label="none")
    assert rows(far).equals(rows(near))
    assert run(pictures, far, resume=pomona.Resume(overwrite=True)).ok == 10
    assert not [name for name in entries(azure, "my tables/features") if name[0] == "_"]


def entries(cloud: Cloud, folder: str) -> list[str]:
    found = cloud.direct.get_file_info(FileSelector(f"bucket/{folder}", allow_not_found=True))
    return sorted(entry.base_name for entry in found)


def test_errors_and_resets_while_a_table_in_azure_is_written_lose_nothing(
    azure: Cloud, run: Run, pictures: Path, tmp_path: Path
) -> None:
    seen: Counter[str] = Counter()

    def shaky(request: Request) -> None:
        name = f"{request.method} {request.path}"
        seen[name] += request.method != "GET"
        if seen[name] == 1:
            raise SLOW_DOWN if len(seen) % 2 else INTERNAL_ERROR

    azure.fault = shaky
    run(pictures, azure.uri("features"))
    azure.fault = lambda _: None
    run(pictures, tmp_path / "near")
    assert rows(azure.uri("features")).equals(rows(str(tmp_path / "near")))
    assert len(seen) > 4


def test_an_upload_that_is_cut_off_leaves_no_part_file(
    cloud: Cloud, run: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "GIVE_UP_S", 0.5)
    monkeypatch.setitem(file_systems._SETTINGS["gs"], "retry_limit_seconds", 1)

    def cut(request: Request) -> None:
        if request.method != "GET" and "part-" in f"{request.path}{request.query}":
            request.reset()

    cloud.fault = cut
    with pytest.raises(RunError, match="cannot write it: .*rows written so far stay"):
        run(pictures, cloud.uri("features"))
    cloud.fault = lambda _: None
    assert not [name for name in entries(cloud, "features") if name.startswith("part-")]
    assert run(pictures, cloud.uri("features")).files == 14


def test_a_table_that_may_not_be_written_is_refused_in_one_line(
    cloud: Cloud, run: Run, pictures: Path
) -> None:
    def read_only(request: Request) -> None:
        if request.method not in {"GET", "HEAD"}:
            raise cloud.denied

    cloud.fault = read_only
    with pytest.raises(TableError, match="cannot write TABLE .*cannot write it") as caught:
        run(pictures, cloud.uri("features"))
    assert "\n" not in str(caught.value)
