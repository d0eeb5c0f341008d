"""The Spark engine: `binaryFile` and `mapInArrow`, running the embedded engine's own worker.

    listing -> waves of files -> binaryFile -> mapInArrow(worker) -> Parquet -> read back

The driver lists the files itself, because Spark drops empty ones in silence, and reads back which
paths a wave has written: what is missing gets its row on the driver, with its reason. Image bytes
are never shuffled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import islice
from typing import TYPE_CHECKING

from pomona.engines.binary_files import read_images
from pomona.engines.carrier import carry
from pomona.engines.cluster import cluster_of
from pomona.engines.dataframe import Task
from pomona.engines.failures import spark_errors
from pomona.engines.job import Job, Progress, Snapshot, Summary, no_progress, summarize
from pomona.errors import RunError
from pomona.runtime import LazyRuntime, loads_so_far
from pomona.worker import featurize

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from pomona.engines.places import Images, Rows
    from pomona.source import ImageFile

__all__ = ["extract"]

_WAVE_FILES_PER_CORE = 10_000  # a wave is one commit: what a lost driver costs
_UNSEEN_FILES, _UNSEEN_SHARE = 100, 0.1  # files that Spark may leave out before it is asked why


def extract(
    job: Job,
    images: Images,
    rows: Rows,
    spark: SparkSession,
    progress: Progress = no_progress,
) -> Summary:
    """Run a job on Spark.

    Args:
        job: what to do.
        images: where the images are.
        rows: where the table is.
        spark: a session whose settings may be changed: `pomona.engines.session` gives one.
        progress: told about three times a second how far the run is.

    Raises:
        SourceError, TableError: before anything is written.
        RunError: the run could not go on; rows written so far stay.
    """
    images.listing.check()
    with spark_errors(RunError, "Spark could not go on"), rows.writing(job):
        run = _Run(job, images, rows, spark)
        _watch(run, progress)
    return summarize(job, job.paths.table, images.listing, run.counts, run.model_loads())


class _Run:
    """One run on Spark."""

    def __init__(self, job: Job, images: Images, rows: Rows, spark: SparkSession) -> None:
        self.counts: Counter[str] = Counter()  # rows in the table by this run, by status
        self._job = job
        self._images = images
        self._rows = rows
        self._spark = spark
        self._left_over: list[ImageFile] = []
        self._on_driver: Counter[str] = Counter()  # rows that the driver made, by status
        self._total: int | None = None
        self._stopped = False
        self._carrier = carry(spark, job.encoder, job.encoder_location)
        self._cluster = cluster_of(spark)
        self._loads_before = loads_so_far()

    def do(self) -> None:
        """Write the rows that are missing: wave by wave, then what Spark left out."""
        with self._cluster.running():
            self._do_waves()
            if not self._stopped:
                self._do_left_over()
        self._carrier.release()

    def stop(self) -> None:
        """Begin nothing more, and end what runs."""
        self._stopped = True
        self._cluster.cancel()

    def _do_waves(self) -> None:
        listing = self._images.listing
        listing.skip(self._rows.paths())
        files = listing.files()
        wave = self._next_wave(files)
        while wave and not self._stopped:
            following = self._next_wave(files)
            if not following:
                self._total = listing.files_listed - listing.files_skipped
            self._do_wave(wave)
            wave = following

    def _next_wave(self, files: Iterator[ImageFile]) -> list[ImageFile]:
        wave = min(_WAVE_FILES_PER_CORE * self._cluster.cores(), self._cluster.largest_wave)
        return list(islice(files, wave))

    def _do_wave(self, wave: list[ImageFile]) -> None:
        """Write the rows of some files in one commit, and find out which Spark left out."""
        readable = self._images.present(wave)
        written: dict[str, str] = {}
        if readable:
            images = read_images(self._spark, readable, self._cluster.cores())
            task = Task(self._carrier, self._job.label, self._job.decode)
            written = self._rows.append(self._cluster.rows(images, task, len(readable)))
            self._cluster.settle(Counter(written.values()))
        unseen = len(readable) - len(written)
        if unseen > max(_UNSEEN_FILES, _UNSEEN_SHARE * len(readable)):
            raise RunError(
                f"Spark's workers could not read {unseen} of {len(readable)} files that the driver "
                "sees: is SOURCE on storage that all machines share?"
            )
        self.counts.update(written.values())
        self._left_over += (file for file in wave if file.uri not in written)

    def _do_left_over(self) -> None:
        """Give empty files, and those that Spark could not read, their rows on the driver."""
        if not self._left_over:
            return
        runtime = LazyRuntime(self._job.encoder)
        images = self._images.read(self._left_over, self._job.label)
        rows = list(featurize(images, runtime, self._job.decode))
        self._rows.append_batches(rows, self._job)
        for batch in rows:
            self._on_driver.update(batch["status"].to_pylist())
        self.counts.update(self._on_driver)

    def model_loads(self) -> int:
        """Models loaded by this run, on executors and on the driver."""
        return self._cluster.model_loads() + loads_so_far() - self._loads_before

    def snapshot(self) -> Snapshot:
        """How far the run is: tasks tell when they end."""
        done = self._cluster.done() + self._on_driver
        return Snapshot(done.total(), done.total() - done["ok"], self._total)


def _watch(run: _Run, progress: Progress) -> None:
    """Do the run in a thread and show how far it is.

    The main thread stays out of py4j, so that a signal finds it free.
    """
    with ThreadPoolExecutor(1, "pomona") as thread:
        future = thread.submit(run.do)
        try:
            while not wait([future], timeout=0.3).done:
                progress(run.snapshot())
        except BaseException:  # Ctrl-C, SIGTERM, a notebook's stop button
            run.stop()
            while not wait([future], timeout=0.3).done:
                run.stop()  # a job may have begun in between
            raise
        progress(run.snapshot())
        future.result()
