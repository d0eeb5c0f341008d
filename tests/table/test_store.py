"""The files of a table on a local disk."""

from __future__ import annotations

from pathlib import Path

import pytest

import stores
from pomona.errors import TableError
from pomona.table.store import LocalStore, Store


@pytest.mark.parametrize("kind", [LocalStore, stores.RenamingStore, stores.CopyingStore])
def test_every_store_satisfies_the_store_contract(kind: type[LocalStore], tmp_path: Path) -> None:
    more = () if kind is LocalStore else (lambda: None,)
    stores.check_contract(kind(tmp_path, *more))


def test_a_link_in_place_of_a_draft_is_replaced_and_not_followed(tmp_path: Path) -> None:
    outside_file = tmp_path / "precious"
    outside_file.write_text("precious")
    table = tmp_path / "table"
    table.mkdir()
    (table / ".pomona-label.json.partial").symlink_to(outside_file)
    LocalStore(table).write(".pomona-label.json", b"{}")
    assert outside_file.read_text() == "precious"
    assert (table / ".pomona-label.json").read_bytes() == b"{}"
    assert not (table / ".pomona-label.json").is_symlink()


@pytest.mark.parametrize(
    "act",
    [
        lambda store: store.entries("_staging-1"),
        lambda store: store.read("_staging-1/data.parquet"),
        lambda store: store.write("_staging-1/data.parquet", b""),
        lambda store: store.move(["data.parquet"], "_staging-1", ""),
        lambda store: store.move(["part.parquet"], "", "_staging-1"),
        lambda store: store.delete(["_staging-1/data.parquet"]),
        lambda store: store.remove_place("_staging-1"),
    ],
)
def test_nothing_behind_a_link_is_read_or_changed(act: object, tmp_path: Path) -> None:
    outside_file = tmp_path / "elsewhere" / "data.parquet"
    outside_file.parent.mkdir()
    outside_file.write_bytes(b"precious")
    table = tmp_path / "table"
    table.mkdir()
    (table / "part.parquet").touch()
    (table / "_staging-1").symlink_to(outside_file.parent)
    store: Store = LocalStore(table)
    with pytest.raises(TableError, match="_staging-1 is a link, which no run creates"):
        act(store)  # type: ignore[operator]
    assert outside_file.read_bytes() == b"precious"
    assert (table / "part.parquet").exists()
