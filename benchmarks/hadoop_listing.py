"""Measures what a file costs between Hadoop's listing and Pomona's, without the storage itself.

    python benchmarks/hadoop_listing.py

The listing is in the JVM's memory, so only the transfer out of the JVM is measured: with one call
for each property of a file, and with one call for thousands of files.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pomona.source.image_file import ImageFile
from pomona.spark.session.session import session
from pomona.spark.storage.hadoop.filesystem import hadoop_path, hadoop_system
from pomona.spark.storage.hadoop.listing import HadoopListing, _one_by_one

FILES, TIMES = 500, 64


def main() -> None:
    with tempfile.TemporaryDirectory() as name, session(None, "local[1]") as spark:
        for n in range(FILES):
            Path(name, f"a photo with a name of usual length {n:07d}.jpg").touch()
        folder = hadoop_path(spark, f"file:{name}")
        jvm: Any = spark.sparkContext._jvm
        statuses = jvm.java.util.ArrayList()
        for status in hadoop_system(spark, folder).listStatus(folder):
            statuses.add(status)
        listing = jvm.java.util.ArrayList()
        for _ in range(TIMES):
            listing.addAll(statuses)
        iterators = jvm.org.apache.hadoop.util.functional.RemoteIterators

        def report(way: str, draw: Callable[[Any], Iterator[ImageFile]]) -> None:
            files = iterators.remoteIteratorFromIterable(listing)
            begun = time.perf_counter()
            count = sum(1 for _ in draw(files))
            each_us = (time.perf_counter() - begun) / count * 1e6
            print(f"{way}: {each_us:.0f} µs for each of {count:,} files")

        at_once = HadoopListing(spark).files
        report("warming up", at_once)
        report("thousands in one call", at_once)
        report("one by one", _one_by_one)


if __name__ == "__main__":
    main()
