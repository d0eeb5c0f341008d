"""Images inside Parquet files: a column of bytes, and a column of keys."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from glob import has_magic, iglob
from itertools import repeat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pomona.errors import SourceError
from pomona.io.delta_log import read_delta_log
from pomona.io.folders import ArrowFolder, LocalFolder
from pomona.io.location import is_remote, local_path, scheme_of
from pomona.io.remote import RemotePlace
from pomona.source.image_file import ImageFile, Place
from pomona.source.kept import check_kept_names, kept_field, kept_values
from pomona.source.passed_over import PassedOver
from pomona.source.remote import RemoteSource
from pomona.source.selection import Selection
from pomona.source.table_file import OpenTableFile, TableFile
from pomona.source.table_reader import BYTES, PATH, TableReader, has_field

__all__ = ["ImageColumns", "TableImages"]


@dataclass(frozen=True, slots=True)
class ImageColumns:
    """The columns of Parquet files that hold images.

    Attributes:
        image: a binary column, or a struct with the field `bytes`, as Hugging Face writes it.
        key: a column of text or integers that identifies a row; None for the field `path` of
            such a struct.
        keep: columns that the run copies into the table.
    """

    image: str
    key: str | None = None
    keep: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableImages:
    """The images of a Parquet file, of a folder of such files, of a glob, or of a Delta table.

    The value of the key is the image's identity, and its bytes tell whether it has changed: the
    files may be written again or in other parts.

    Attributes:
        given: the value of `source`.
        columns: the columns of the images.
        far: the files, if they are in an object store.
        listed: the files that count, if the log of a table says so.
    """

    given: str
    columns: ImageColumns
    far: RemoteSource | None = None
    listed: tuple[TableFile, ...] | None = None

    @classmethod
    def at(cls, location: str, columns: ImageColumns) -> TableImages:
        """Return the images at a path or a URI.

        Raises:
            SourceError: the object store cannot be reached.
        """
        if not is_remote(location):
            return cls(location, columns)
        far = RemoteSource.at(location, Selection(("*.parquet",)))
        return cls(far.given, columns, far)

    @property
    def reader(self) -> TableReader:
        """What reads the images."""
        return TableReader(self.columns.image, self._store)

    @property
    def _store(self) -> RemotePlace | None:
        return self.far.place if self.far else None

    @property
    def by_content(self) -> bool:
        """Whether an image has changed if its bytes have: there is no time of a row."""
        return True

    def check(self) -> None:
        """Check that the files have the columns, and that each key occurs once.

        Raises:
            SourceError: there is no file, it cannot be read, or a column is missing or of another
                type; a column to keep has the name of a column of every feature table; or a key is
                null or occurs twice.
        """
        check_kept_names(self.columns.keep)
        keys: list[pa.Array] = []
        kept = self.kept()
        for one in self._files():
            with one.opened() as file:
                if (found := self._kept(file)) != kept:
                    raise SourceError(
                        f"{file.path} has columns for `keep` of other types than the first file: "
                        f"{_types_of(found)}, expected {_types_of(kept)}"
                    )
                keys.extend(self._keys(rows) for _, _, rows in file.rows([self._key(file)]))
        if not keys:
            raise SourceError(f"{self.given} has no rows: give a Parquet file with images")
        several = pa.chunked_array(keys)
        if several.null_count:
            raise SourceError(
                f"{self.given} has {several.null_count} rows without a key in "
                f"{self.columns.key or self.columns.image}: give another `key_column`"
            )
        if pc.count_distinct(several).as_py() < len(several):
            counts = pc.value_counts(several)
            twice = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"]
            raise SourceError(
                f"{self.given} has the key {twice.as_py()!r:.200} more than once: give a "
                "`key_column` whose values all differ"
            )

    def files(
        self,
        on_error: Callable[[OSError], None],  # noqa: ARG002 - an unreadable file ends the run
        passed_over: PassedOver | None = None,  # noqa: ARG002 - each row is an image
    ) -> Iterator[ImageFile]:
        """Yield the images in the order of the files."""
        for one in self._files():
            with one.opened() as file:
                kept = self._kept(file)
                read = list(dict.fromkeys([self._key(file), *kept.names]))
                for group, numbers, rows in file.rows(read):
                    names = self._keys(rows).to_pylist()
                    values = kept_values(rows, kept) if kept.names else repeat(())
                    for row, name, some in zip(numbers, names, values, strict=False):
                        yield ImageFile(name, None, None, Place(file.path, group, row), some)

    def labels(self, column: str) -> dict[str, str | None]:
        """Return the values of a column as labels, by key.

        Integers that Hugging Face's `ClassLabel` explains become its names.

        Raises:
            SourceError: there is no such column, or it holds neither text nor integers.
        """
        found: dict[str, str | None] = {}
        for one in self._files():
            with one.opened() as file:
                names = _class_names(file.schema, column)
                _check_text(file, column, "another `label`")
                for _, _, rows in file.rows(list({self._key(file), column})):
                    values = rows.column(column).cast(pa.large_string()).to_pylist()
                    labels = (names.get(value, value) for value in values)
                    found |= zip(self._keys(rows).to_pylist(), labels, strict=True)
        return found

    def is_gone(self, uri: str) -> bool:
        """Return whether a row without an image here has a key, not the path of a file."""
        return scheme_of(uri) is None

    def digest(self, file: ImageFile) -> str | None:
        """Return the SHA-256 of an image's bytes, in hex; None if it has none.

        It is fast in the order of the listing.
        """
        ((content, _),) = self._hashed.read([file])
        return None if content is None else hashlib.sha256(content).hexdigest()

    @cached_property
    def _hashed(self) -> TableReader:
        return self.reader

    @property
    def folder(self) -> LocalFolder | ArrowFolder:
        """The place given, as a folder."""
        if (store := self._store) is None:
            return LocalFolder(Path(local_path(self.given)))
        return ArrowFolder(self.given, store.system(), store.path(self.given))

    def of_delta(self) -> TableImages:
        """Return the images of the Delta table in the folder.

        Raises:
            SourceError: its log cannot be read, or it has features that Pomona does not read.
        """
        schema, files = read_delta_log(self.folder, SourceError)
        nulls = {column.name: pa.scalar(None, column.type) for column in schema}
        listed = (
            TableFile(file.place, nulls | file.values, file.is_there, self._store) for file in files
        )
        return replace(self, listed=tuple(listed))

    def folders(self) -> list[LocalFolder | ArrowFolder]:
        """Return the folders of the files.

        Raises:
            SourceError: there are no files.
        """
        paths = sorted({os.path.dirname(file.path) for file in self._files()})  # noqa: PTH120
        if (store := self._store) is None:
            return [LocalFolder(Path(path)) for path in paths]
        return [ArrowFolder(path, store.system(), store.path(path)) for path in paths]

    def _files(self) -> Sequence[TableFile]:
        """Return the Parquet files, in a fixed order.

        Raises:
            SourceError: there are none.
        """
        if self.listed is not None:
            if not self.listed:
                raise SourceError(f"{self.given} has no rows: give a table with images")
            return self.listed
        if self.far:
            return self._objects(self.far)
        place = local_path(self.given)
        if os.path.isdir(place):  # noqa: PTH112 - names may be no valid text: stay with os
            found = sorted(map(str, Path(place).rglob("*.parquet")))
            found = [path for path in found if not _is_hidden(path[len(place) :])]
        elif os.path.lexists(place):
            found = [place]
        else:
            found = sorted(iglob(place, recursive=True)) if has_magic(place) else []  # noqa: PTH207
        if not found:
            raise self._nothing()
        return [TableFile(os.path.abspath(path)) for path in found]  # noqa: PTH100

    def _objects(self, far: RemoteSource) -> list[TableFile]:
        far.check()
        found = [file.path for file in far.files(lambda _: None)]
        if not (found := [uri for uri in found if not _is_hidden(uri[len(far.glob.base) :])]):
            raise self._nothing()
        return [TableFile(uri, store=far.place) for uri in sorted(found)]

    def _nothing(self) -> SourceError:
        return SourceError(
            f"{self.given or repr('')} has no Parquet files: with `image_column`, give a "
            ".parquet file, a folder of them, or a glob"
        )

    def kept(self) -> pa.Schema:
        """Return the columns to keep, as the feature table has them.

        Raises:
            SourceError: the first file lacks one, or it has a type that the table cannot have.
        """
        with self._files()[0].opened() as file:
            return self._kept(file)

    def _kept(self, file: OpenTableFile) -> pa.Schema:
        return pa.schema(kept_field(file.path, file.schema, name) for name in self.columns.keep)

    def _key(self, file: OpenTableFile) -> str:
        """Return the name of the column of keys, after checking both columns.

        Raises:
            SourceError: a column is missing, or of another type.
        """
        image, key = self.columns.image, self.columns.key
        kind = _type_of(file.path, file.own_schema, image)
        if not (_is_binary(kind) or (pa.types.is_struct(kind) and has_field(kind, BYTES))):
            raise SourceError(
                f"{file.path} has the column {image!r} of type {kind}, expected binary, or a "
                "struct with bytes: give another `image_column`"
            )
        if key is None:
            if not (pa.types.is_struct(kind) and has_field(kind, PATH)):
                raise SourceError(
                    f"{file.path} does not say what identifies an image: give `key_column`, a "
                    "column of text or integers"
                )
            return f"{image}.{PATH}"
        _check_text(file, key, "another `key_column`")
        return key

    def _keys(self, rows: pa.RecordBatch) -> pa.Array:
        column = rows.column(self.columns.key or self.columns.image)
        if self.columns.key is None:
            column = pc.struct_field(column, PATH)
        return column.cast(pa.large_string())


def _type_of(path: str, schema: pa.Schema, column: str) -> Any:
    if column not in schema.names:
        raise SourceError(
            f"{path} has no column {column!r}: it has {', '.join(schema.names)[:500]}"
        )
    return schema.field(column).type


def _check_text(file: OpenTableFile, column: str, advice: str) -> None:
    kind = _type_of(file.path, file.schema, column)
    if not (pa.types.is_integer(kind) or _is_text(kind)):
        raise SourceError(
            f"{file.path} has the column {column!r} of type {kind}, expected text or integers: "
            f"give {advice}"
        )


def _class_names(schema: pa.Schema, column: str) -> dict[str | None, str]:
    """Return the names of the classes by their numbers, as `datasets` writes them."""
    try:
        about = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][column]
        names = about["names"] if about.get("_type") == "ClassLabel" else []
        return {str(number): str(name) for number, name in enumerate(names)}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _types_of(kept: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in kept)


def _is_hidden(below: str) -> bool:
    return any(part.startswith((".", "_")) for part in below.split("/"))


def _is_binary(kind: Any) -> bool:
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return any(test(kind) for test in tests)


def _is_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(test(kind) for test in tests)
