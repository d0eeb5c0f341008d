"""Reading images in archives, and objects of a list: Spark's workers read the bytes themselves.

The archives must be on storage that all machines share, at the same path. The workers reach stores
as the embedded engine does: through Arrow, with the credentials of their environment.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pomona.source.archives.reader import MemberReader
from pomona.source.image_file import read_batches
from pomona.source.list_reader import ListReader
from pomona.source.stores import is_object
from pomona.spark.named_files import COLUMNS, as_binary_file

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from pomona.source.image_file import ImageFile

__all__ = ["read_members"]


def read_members(spark: SparkSession, files: list[ImageFile], tasks: int) -> DataFrame:
    """Read members of archives or objects, with the columns of `binaryFile`.

    Args:
        spark: the session.
        files: the members, in the order of the listing.
        tasks: number of tasks. Each gets members that follow one another.
    """
    share = -(-len(files) // tasks)
    shares = [(pickle.dumps(files[at : at + share]),) for at in range(0, len(files), share)]
    return (
        spark.createDataFrame(shares, "files binary").repartition(tasks).mapInArrow(_read, COLUMNS)
    )


def _read(shares: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Read members in a worker; an unreadable member has no row, and the driver makes it."""
    members, objects = MemberReader(), ListReader()
    for pickled in (value for batch in shares for value in batch["files"].to_pylist()):
        files = pickle.loads(pickled)  # noqa: S301 - by `read_members`
        reader = objects if any(map(is_object, files)) else members
        yield from as_binary_file(read_batches(files, lambda _: None, reader.read(files)))
    members.close()
