"""Which columns of a DataFrame `featurize` reads: found and checked before any job runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pomona.errors import EngineError
from pomona.schema import ENCODER_COLUMN, FEATURE_SCHEMA
from pomona.spark.errors import quiet_analysis
from pomona.spark.session.session import functions_of

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame
    from pyspark.sql.types import DataType, StructField

__all__ = ["KEPT_PREFIX", "select_images"]

KEPT_PREFIX = "kept_"
"""The prefix of kept columns on their way through the workers."""

_OPTIONAL = {"size": ("size", "length"), "modified": ("modified", "modificationTime")}
_INTEGERS = ("tinyint", "smallint", "int", "bigint")
_TIMES = ("timestamp", "timestamp_ntz", "date")
_NO_LABELS = ("struct", "array", "map", "binary", "variant")


def select_images(  # noqa: PLR0913 - the parameters of `featurize` about columns
    images: DataFrame,
    image_column: str,
    path_column: str,
    label_column: str | None,
    keep: Iterable[str] | str,
    *,
    has_rule: bool,
) -> tuple[DataFrame, list[StructField]]:
    """Select the columns that the workers read, under the workers' names.

    Args:
        images: any DataFrame.
        image_column: binary, the bytes of images.
        path_column: string or an integer key.
        label_column: any type that Spark can cast to a string; None for `label` if it exists.
        keep: names of columns that pass through, or `all` (also `*`).
        has_rule: whether a rule makes the labels, so that no column is read for them.

    Returns:
        The DataFrame, and the fields of the kept columns under the caller's names.

    Raises:
        EngineError: a column is missing, has the wrong type, or has a name that is already used.
    """
    if not hasattr(images, "sparkSession"):
        raise EngineError(
            f"featurize takes a Spark DataFrame, got a {type(images).__name__}: make one "
            "with spark.createDataFrame, or read images with spark.read.format('binaryFile')"
        )
    found = _Columns(images)
    if has_rule and label_column is not None:
        raise EngineError(
            f"featurize got label= and label_column={label_column!r}: give one of them"
        )
    image = found.needed(image_column, "image_column", "the bytes of images")
    _check_image(image_column, image)
    path = found.needed(path_column, "path_column", "an image's URI or key")
    # A string may have a collation, which is part of its type's name.
    if path.typeName() != "string" and path.simpleString() not in _INTEGERS:
        raise EngineError(
            f"featurize takes a string or an integer as path_column, and column {path_column!r} "
            f"is {_shown(path)}: cast it, or name another column"
            f"{_fields(path_column, path, 'path_column')}"
        )
    chosen = [found.column(image_column).alias("content")]
    chosen.append(found.column(path_column).cast("string").alias("path"))
    sources = [path_column] if path_column.lower() == "path" else []
    if label_column is None and not has_rule and found.has("label"):
        label_column = "label"
    if label_column is not None:
        label = found.needed(label_column, "label_column", "the images' labels")
        if label.typeName() in _NO_LABELS:
            raise EngineError(
                f"featurize takes a string or a number as a label, and column {label_column!r} is "
                f"{_shown(label)}: name another column"
                f"{_fields(label_column, label, 'label_column')}, or rename it"
            )
        chosen.append(found.column(label_column).cast("string").alias("label"))
        sources += [label_column] if label_column.lower() == "label" else []
    for name, candidates in _OPTIONAL.items():
        if source := next(filter(found.has, candidates), None):
            chosen.append(_optional(found, source, name))
            sources += [source] if source == name else []
    kept = found.kept(keep, image_column, sources)
    for number, field in enumerate(kept):
        chosen.append(found.column(field[0]).alias(f"{KEPT_PREFIX}{number}"))
    return images.select(*chosen), [field for _, field in kept]


class _Columns:
    """The columns of a DataFrame, by the rules of its session."""

    def __init__(self, images: DataFrame) -> None:
        self._images = images
        setting = images.sparkSession.conf.get("spark.sql.caseSensitive", "false")
        self._fold = str if setting == "true" else str.lower

    def has(self, name: str) -> bool:
        """Return whether there is a top-level column of that name."""
        return self._fold(name) in map(self._fold, self._images.columns)

    def column(self, name: str) -> Column:
        """Return a column, or a field of one: `image.bytes`."""
        quoted = f"`{name}`" if "." in name and self.has(name) else name
        found: Column = functions_of(self._images.sparkSession).col(quoted)
        return found

    def needed(self, name: str, parameter: str, what: str) -> DataType:
        """Return the type of a required column."""
        from pyspark.errors import PySparkException

        try:
            with quiet_analysis():
                return self._images.select(self.column(name)).schema.fields[0].dataType
        except PySparkException as error:
            reason = " (two columns have that name)" if "AMBIGUOUS" in str(error) else ""
            raise EngineError(
                f"featurize needs a column {name!r} with {what}{reason}; this DataFrame has "
                f"{', '.join(self._images.columns)}: give {parameter}="
            ) from error

    def kept(
        self, keep: Iterable[str] | str, image_column: str, sources: list[str]
    ) -> list[tuple[str, StructField]]:
        """Yield the columns to keep: the expression to select, and the resulting field."""
        from pyspark.sql.types import StructField

        names = [keep] if isinstance(keep, str) else list(keep)
        if keep == "all" or "*" in names:
            root = image_column if self.has(image_column) else image_column.partition(".")[0]
            inside = self._fold(root)
            left_out = {inside, *map(self._fold, sources)}
            names = [name for name in self._images.columns if self._fold(name) not in left_out]
            names = [f"`{name}`" if "." in name else name for name in names]
        used = {self._fold(name): name for name in (*FEATURE_SCHEMA.names, ENCODER_COLUMN)}
        found = []
        for name in names:
            kind = self.needed(name, "keep", "the values to keep")
            last = name.strip("`") if self.has(name.strip("`")) else name.rpartition(".")[2]
            if self._fold(last) in used:
                how = f"withColumnRenamed({last!r}, 'my_{last}')"
                if not self.has(name.strip("`")):  # a field of a column
                    how = f"withColumn('my_{last}', col({name!r})), and keep that"
                raise EngineError(
                    f"featurize would return two columns {last!r}, since keep has {name!r}: rename "
                    f"yours first, for example with {how}"
                )
            _check_kept(name, kind)
            used[self._fold(last)] = last
            found.append((name, StructField(last, kind)))
        return found


def _check_kept(name: str, kind: DataType) -> None:
    from pyspark.sql.pandas.types import to_arrow_type
    from pyspark.sql.types import UserDefinedType

    advice = "cast it to a string first"
    if isinstance(kind, UserDefinedType):
        advice = "convert it to an array first, for example with vector_to_array"
    else:
        try:
            to_arrow_type(kind)
        except TypeError:  # for example an interval of months, which Arrow stores differently
            pass
        else:
            return
    raise EngineError(
        f"featurize cannot keep column {name!r} {_shown(kind)}: {advice}, or leave it out of keep"
    )


def _check_image(name: str, kind: DataType) -> None:
    if kind.simpleString() == "binary":
        return
    advice = "read images with spark.read.format('binaryFile')"
    if kind.simpleString() == "string":
        advice = (
            f"if it holds base64, give images.withColumn({name!r}, unbase64({name!r})); if it "
            "holds paths, read these files with spark.read.format('binaryFile').load(paths)"
        )
    elif kind.simpleString() == "array<binary>":
        advice = f"make a row of each element first, with explode({name!r})"
    elif fields := _fields(name, kind, "image_column", "binary"):
        advice = f"name the field that is{fields}"
    raise EngineError(
        f"featurize takes bytes of images (binary), and column {name!r} is {_shown(kind)}: {advice}"
    )


def _optional(found: _Columns, source: str, name: str) -> Column:
    kind = found.needed(source, "", "one value").simpleString()
    target, types, what = {
        "size": ("bigint", _INTEGERS, "the file's size in bytes, an integer"),
        "modified": ("timestamp", _TIMES, "the time of the file's last change, a timestamp"),
    }[name]
    if kind not in types:
        raise EngineError(
            f"featurize reads column {source!r} as {what}, but its type is {kind[:60]}: rename the "
            "column if it is something else, or cast it"
        )
    # A time without a zone is in the session's zone, as everywhere in Spark.
    return found.column(source).cast(target).alias(name)


def _shown(kind: DataType) -> str:
    return f"of type {kind.simpleString()[:100]}"


def _fields(name: str, kind: DataType, parameter: str, only: str = "string") -> str:
    """Return advice that names fields of a struct; empty if there are none."""
    from pyspark.sql.types import StructType

    if not isinstance(kind, StructType):
        return ""
    names = [
        f"{parameter}='{name}.{field.name}'"
        for field in kind.fields
        if field.dataType.simpleString() == only
    ]
    return f", such as {' or '.join(names)}" if names else ""
