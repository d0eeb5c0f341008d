"""The Spark engine: `binaryFile` and `mapInArrow`, running the embedded engine's own worker.

    listing -> waves of files -> binaryFile -> mapInArrow(worker) -> Parquet -> read back

The driver lists the files itself, because Spark drops empty ones in silence, and reads back which
paths a wave has written: what is missing gets its row on the driver, with its reason. Image bytes
are never shuffled.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark.accumulators import AccumulatorParam

from pomona.encoder.blob import Encoder
from pomona.engines.job import Job, Progress, Snapshot, Summary, no_progress, summarize
from pomona.errors import EngineError, PomonaError, RunError
from pomona.runtime import LazyRuntime, load_once, loads_since, loads_so_far
from pomona.schema import FEATURE_SCHEMA, INPUT_SCHEMA, SPARK_SCHEMA, column_metadata
from pomona.worker import EXACT, DecodeOptions, encode_images
from pomona.worker import featurize as featurize_batches

if TYPE_CHECKING:
    from pyspark import Accumulator, Broadcast
    from pyspark.sql import DataFrame, SparkSession

    from pomona.engines.places import Images, Rows
    from pomona.labels import LabelRule
    from pomona.source import ImageFile

__all__ = ["extract", "featurize", "featurize_udf"]

_COLUMNS = {"size": "length", "modified": "modificationTime"}  # ours: binaryFile's

_WAVE_FILES_PER_CORE = 10_000  # a wave is one commit: what a lost driver costs
_UNSEEN_FILES, _UNSEEN_SHARE = 100, 0.1  # files that Spark may leave out before it is asked why
_TASKS_PER_CORE = 4  # a few, so that one slow task does not hold up a core's share
_SMALLEST_TASK = 64  # images: below that, starting a task costs more than it brings
_SMALLEST_TASK_BYTES = 16 * 2**20  # a few photos take as long as many small images
_OPEN_COST_BYTES = 64 * 1024  # an image costs its network run also: as much as decoding 64 kB
_ARROW_BYTES = 16 * 2**20  # in an Arrow batch of images


def featurize(
    images: DataFrame,
    encoder: Encoder,
    *,
    label: LabelRule | None = None,
    decode: DecodeOptions = EXACT,
) -> DataFrame:
    """Turn a DataFrame of images into rows of the feature table, lazily.

    Args:
        images: columns `path` string and `content` binary, as `binaryFile` gives; `label`,
            `length` or `size`, and `modificationTime` or `modified` are kept where present.
        encoder: what turns images into vectors; it travels once to each executor.
        label: gives labels in place of a column `label`.
        decode: how images become pixels.

    Returns:
        One row for each image, the columns of the feature table, with provenance on `features`.

    Raises:
        EngineError: a column is missing.
    """
    carrier = _carry(images.sparkSession, encoder)
    return _featurize(images, carrier, label, decode, None)


def featurize_udf(encoder: Encoder, spark: SparkSession | None = None) -> Any:
    """Make a Scalar-Iterator pandas UDF: bytes of an image to `array<float>`, null if unreadable.

        features = featurize_udf(encoder)
        images.select("path", "label", features("content").alias("features"))
        spark.udf.register("featurize", features)

    Args:
        encoder: what turns images into vectors; it travels once to each executor.
        spark: the session; by default the active one.

    Raises:
        EngineError: no session is active.
    """
    import pandas as pd
    from pyspark.sql import SparkSession as Session
    from pyspark.sql.pandas.functions import pandas_udf

    spark = spark or Session.getActiveSession()
    if spark is None:
        raise EngineError("featurize_udf needs a Spark session: start one, or pass spark=")
    carrier = _carry(spark, encoder)

    def features(batches: Any) -> Any:
        runtime = carrier.runtime()
        for contents in batches:
            array = pa.array(contents, pa.large_binary(), from_pandas=True)
            rows, vectors = encode_images(array, None, runtime, EXACT)
            found = iter(vectors)
            yield pd.Series([next(found) if row.status == "ok" else None for row in rows])

    # Spark takes the kind of UDF from the hints; as strings they would not resolve in here.
    series = Iterator[pd.Series]
    features.__annotations__ = {"batches": series, "return": series}
    make: Any = pandas_udf  # its overloads know no hints that are set afterwards
    return make(features, "array<float>")


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
        self._carrier = _carry(spark, job.encoder)
        context = spark.sparkContext
        self._group = context.getLocalProperty("spark.jobGroup.id") or f"pomona-{uuid.uuid4()}"
        self._loads_before = loads_so_far()
        self._tally: Accumulator[Counter[str]] = spark.sparkContext.accumulator(
            Counter(), _CounterParam()
        )

    def do(self) -> None:
        """Write the rows that are missing: wave by wave, then what Spark left out."""
        self._spark.sparkContext.setJobGroup(self._group, "pomona extract", True)
        self._do_waves()
        if not self._stopped:
            self._do_left_over()
        self._carrier.blob.destroy()

    def stop(self) -> None:
        """Begin nothing more, and end what runs."""
        self._stopped = True
        self._spark.sparkContext.cancelJobGroup(self._group)

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
        cores = self._spark.sparkContext.defaultParallelism  # executors come and go
        return list(islice(files, _WAVE_FILES_PER_CORE * cores))

    def _do_wave(self, wave: list[ImageFile]) -> None:
        """Write the rows of some files in one commit, and find out which Spark left out."""
        readable = self._images.present(wave)
        written: dict[str, str] = {}
        if readable:
            images = _read_images(self._spark, readable)
            job = self._job
            rows = _featurize(images, self._carrier, job.label, job.decode, self._tally)
            written = self._rows.append(rows)
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
        rows = list(featurize_batches(images, runtime, self._job.decode))
        self._rows.append_batches(rows, self._job)
        for batch in rows:
            self._on_driver.update(batch["status"].to_pylist())
        self.counts.update(self._on_driver)

    def model_loads(self) -> int:
        """Models loaded by this run, on executors and on the driver."""
        on_executors: int = self._tally.value["model_loads"]
        return on_executors + loads_so_far() - self._loads_before

    def snapshot(self) -> Snapshot:
        """How far the run is: tasks tell when they end."""
        tally = self._tally.value + self._on_driver
        done = tally.total() - tally["model_loads"]
        return Snapshot(done, done - tally["ok"], self._total)


@contextmanager
def spark_errors(kind: type[PomonaError], what: str) -> Iterator[None]:
    """Say in one line what went wrong in Spark."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JError) as error:
        raise kind(f"{what}: {cause_of(str(error))}") from error


def cause_of(story: str) -> str:
    """Find the cause in the text of one of Spark's exceptions, which is mostly stack traces.

    That is the last line of a Python traceback, else the last `Caused by:`, else the first line.
    """
    lines = [line.rstrip() for line in story.splitlines() if line.strip()]
    traceback = [n for n, line in enumerate(lines) if line.startswith("Traceback (most recent")]
    if traceback:
        after = lines[traceback[-1] + 1 :]
        return next((line for line in after if not line.startswith(" ")), lines[0])[:300]
    causes = [line.strip() for line in lines if line.strip().startswith("Caused by:")]
    return (causes[-1].removeprefix("Caused by: ") if causes else lines[0])[:300]


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


def _read_images(spark: SparkSession, files: list[ImageFile]) -> DataFrame:
    """Read just these files with `binaryFile`, in tasks of about equal work."""
    for key, value in read_settings(files, spark.sparkContext.defaultParallelism).items():
        spark.conf.set(key, str(value))
    reader = spark.read.format("binaryFile")
    # Names with brackets or braces are names, not patterns.
    reader = reader.option("__globPaths__", "false")
    # A folder called `kind=odd` is a folder, no partition. Without this, Spark 4.3 also gives every
    # other file twice as soon as one name has a brace in it.
    reader = reader.option("recursiveFileLookup", "true")
    return reader.load([file.uri for file in files])


def read_settings(files: list[ImageFile], cores: int) -> dict[str, object]:
    """Spark's settings for reading some files: how they are packed into tasks and batches."""
    sizes = [file.size or 0 for file in files]
    largest = max(sizes)
    weight = sum(sizes) + len(sizes) * _OPEN_COST_BYTES
    worth = max(len(sizes) // _SMALLEST_TASK, sum(sizes) // _SMALLEST_TASK_BYTES)
    tasks = max(1, min(cores * _TASKS_PER_CORE, worth))
    return {
        "spark.sql.files.openCostInBytes": _OPEN_COST_BYTES,
        "spark.sql.files.maxPartitionBytes": weight // tasks + _OPEN_COST_BYTES,
        "spark.sql.files.ignoreMissingFiles": "true",
        "spark.sql.files.ignoreCorruptFiles": "true",
        # Explicit paths are looked at by as many tasks as there are cores, not one task for each.
        "spark.sql.sources.parallelPartitionDiscovery.threshold": 20_000,
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": 4 * cores,
        # By rows for Spark 3.5, by bytes where Spark knows that setting.
        "spark.sql.execution.arrow.maxRecordsPerBatch": max(1, _ARROW_BYTES // max(largest, 65536)),
        "spark.sql.execution.arrow.maxBytesPerBatch": _ARROW_BYTES,
    }


def _featurize(
    images: DataFrame,
    carrier: _Carrier,
    label: LabelRule | None,
    decode: DecodeOptions,
    tally: Accumulator[Counter[str]] | None,
) -> DataFrame:
    from pyspark.sql.functions import col

    for needed in ("path", "content"):
        if needed not in images.columns:
            raise EngineError(
                f"featurize needs columns path and content; this DataFrame has "
                f"{', '.join(images.columns)}"
            )
    kept = {"path", "label", "content", *_COLUMNS, *_COLUMNS.values()}
    chosen = images.select(*(name for name in images.columns if name in kept))
    task = _Task(carrier, label, decode, tally)
    rows = chosen.mapInArrow(task, SPARK_SCHEMA)
    provenance = {**carrier.provenance, **decode.provenance()}
    features = col("features").alias("features", metadata=column_metadata(provenance))
    return rows.select(*(features if n == "features" else n for n in FEATURE_SCHEMA.names))


@dataclass(frozen=True, slots=True)
class _Carrier:
    """An encoder on its way to the workers: its bytes travel once to each executor."""

    fingerprint: str
    provenance: dict[str, str]
    blob: Broadcast[bytes]

    def runtime(self) -> Any:
        """This process's loaded network; the bytes are looked at the first time only."""
        return load_once(self.fingerprint, lambda: Encoder.from_bytes(self.blob.value))


def _carry(spark: SparkSession, encoder: Encoder) -> _Carrier:
    blob = spark.sparkContext.broadcast(encoder.to_bytes())
    return _Carrier(encoder.fingerprint, encoder.provenance(), blob)


@dataclass(frozen=True, slots=True)
class _Task:
    """What runs in Spark's Python workers, pickled by reference."""

    carrier: _Carrier
    label: LabelRule | None
    decode: DecodeOptions
    tally: Accumulator[Counter[str]] | None

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        runtime = self.carrier.runtime()
        inputs = (self._adapt(batch) for batch in batches)
        counts: Counter[str] = Counter(model_loads=loads_since())
        for rows in featurize_batches(inputs, runtime, self.decode):
            counts.update(rows["status"].to_pylist())
            yield rows
        if self.tally is not None:
            self.tally.add(counts)

    def _adapt(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Bring a batch of `binaryFile`'s columns into the worker's."""
        columns = []
        for field in INPUT_SCHEMA:
            name = field.name
            if name == "label" and self.label is not None:
                column = pa.array(map(self.label, batch["path"].to_pylist()), field.type)
            elif name in batch.schema.names:
                column = batch[name]
            elif _COLUMNS.get(name) in batch.schema.names:
                column = batch[_COLUMNS[name]]
            else:
                column = pa.nulls(batch.num_rows, field.type)
            # Contents keep their own type: a cast would copy every image.
            columns.append(column if name == "content" else column.cast(field.type))
        return pa.RecordBatch.from_arrays(columns, names=INPUT_SCHEMA.names)


class _CounterParam(AccumulatorParam[Counter[str]]):
    """Adds up counters of tasks; those of a task that was done twice count twice: for show only."""

    def zero(self, value: Counter[str]) -> Counter[str]:  # noqa: ARG002 - PySpark's protocol
        return Counter()

    def addInPlace(self, value1: Counter[str], value2: Counter[str]) -> Counter[str]:  # noqa: N802
        value1.update(value2)
        return value1
