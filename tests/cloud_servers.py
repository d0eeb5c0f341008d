"""Servers of Azure's and Google's storage, with faults in front of them, and one API for both."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue

import pytest
from pyarrow.fs import FileSystem

from faulty_server import Answer, App, FaultyServer, forwarding_to, serving
from server_threads import running

__all__ = ["Cloud", "azure", "google"]

STORES = Path(__file__).parents[1] / ".stores"
"""The folder of `make test-stores`."""

ACCOUNT = "devstoreaccount1"  # as azurite documents it, with its key
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class Cloud(FaultyServer):
    """A storage server with a bucket or container named `bucket`.

    Attributes:
        top: the URI of the bucket.
        settings: what must follow a URI: where the server is.
        expired: an answer to credentials that have expired.
        denied: an answer to credentials without permission.
        direct: the storage without faults.
    """

    top: str
    settings: str
    expired: Answer
    denied: Answer
    direct: FileSystem

    def uri(self, path: str, bucket: str = "bucket") -> str:
        """Return the URI of an object, with settings."""
        return f"{self.top.replace('bucket', bucket)}/{path}{self.settings}"

    def put(self, path: str, content: bytes) -> None:
        """Store an object."""
        with self.direct.open_output_stream(f"bucket/{path}") as file:
            file.write(content)

    def put_folder(self, folder: Path, path: str) -> None:
        """Store all files of a folder as objects below a path."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.put(f"{path}/{file.relative_to(folder).as_posix()}", file.read_bytes())

    def delete(self, path: str) -> None:
        """Delete an object."""
        self.direct.delete_file(f"bucket/{path}")


@pytest.fixture(scope="session")
def azurite() -> Iterator[str]:
    """The address of a running azurite."""
    folder = STORES / "node_modules" / ".bin"
    command = shutil.which("azurite-blob", path=f"{folder}{os.pathsep}{os.environ['PATH']}")
    if command is None or shutil.which("node") is None:
        pytest.skip("azurite, a server of Azure's storage, is missing: run make test-stores")
    options = ["--blobPort", "0", "--inMemoryPersistence", "--skipApiVersionCheck", "--silent"]
    server = subprocess.Popen(
        [command, *options, "--disableTelemetry"], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    addresses: Queue[str] = Queue()

    def read() -> None:
        for line in server.stdout or ():
            if found := re.search(r"listens on http://(\S+)", line):
                addresses.put(found[1])

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield addresses.get(timeout=60)
    except Empty:
        pytest.skip("azurite, a server of Azure's storage, does not start")
    finally:
        server.terminate()
        server.wait()
        thread.join()
        server.stdout.close()


@pytest.fixture
def azure(azurite: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """Azure's storage, with its key in the environment."""
    from pyarrow.fs import AzureFileSystem

    store = Cloud(forwarding_to(azurite))
    authorities = {"blob_storage_authority": azurite, "dfs_storage_authority": azurite}
    schemes = {"blob_storage_scheme": "http", "dfs_storage_scheme": "http"}
    store.direct = AzureFileSystem(ACCOUNT, account_key=KEY, **authorities, **schemes)
    store.top = f"abfss://bucket@{ACCOUNT}.dfs.core.windows.net"
    store.expired = Answer("401 Unauthorized", "InvalidAuthenticationInfo")
    store.denied = Answer("403 Forbidden", "AuthorizationPermissionMismatch")
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
    store.direct.create_dir("bucket")
    with serving(store):
        at = store.address
        store.settings = f"?blob_storage_authority={at}&dfs_storage_authority={at}&enable_tls=false"
        yield store
    store.direct.delete_dir("bucket")


@contextmanager
def google_emulator() -> Iterator[tuple[str, App]]:
    """Run the emulator of Google's storage, and give its address."""
    emulator = pytest.importorskip(
        "gcp_storage_emulator.server", reason="gcp-storage-emulator is missing"
    )
    from gcp_storage_emulator.storage import Storage

    storage = Storage(use_memory_fs=True)
    handler = partial(emulator.RequestHandler, storage)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    address = f"127.0.0.1:{server.server_port}"
    with running(server):
        yield address, forwarding_to(address)


@pytest.fixture
def google() -> Iterator[Cloud]:
    """Google's storage, without credentials."""
    from pyarrow.fs import GcsFileSystem

    with google_emulator() as (address, app):
        store = Cloud(app)
        store.direct = GcsFileSystem(
            anonymous=True, endpoint_override=address, scheme="http", project_id="test"
        )
        store.direct.create_dir("bucket")
        store.top = "gs://anonymous@bucket"
        store.expired = Answer("401 Unauthorized", "UNAUTHENTICATED")
        store.denied = Answer("403 Forbidden", "PERMISSION_DENIED")
        with serving(store):
            store.settings = f"?endpoint_override={store.address}&scheme=http"
            yield store
