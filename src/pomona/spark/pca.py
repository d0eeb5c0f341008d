"""PCA by Spark ML, for tables of any size that Spark reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pomona.analysis.pca import Projection, check_size, orient
from pomona.analysis.projection import MAP_POINTS, MapPoints, Projected, check_target
from pomona.errors import EngineError, RunError, TableError
from pomona.io.location import canonical, check_spelling, is_remote, spark_path
from pomona.schema import FEATURE_SCHEMA, SPARK_SCHEMA, column_metadata
from pomona.spark.errors import spark_errors
from pomona.spark.session.session import check_spark, is_connect, session
from pomona.spark.storage.hadoop.table import HadoopTableStore
from pomona.spark.storage.parquet import write_parquet
from pomona.spark.table_reader import open_on_spark, refuse_delta
from pomona.table.feature_table import FeatureTable
from pomona.table.writer import writing

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["project_on_spark"]


def project_on_spark(  # noqa: PLR0913 - as `project`, and on which Spark
    source: str,
    target: str,
    k: int,
    *,
    overwrite: bool = False,
    master: str | None = None,
    spark: SparkSession | None = None,
) -> Projected:
    """Write a new table with the vectors of another, projected by Spark ML's PCA.

    Args:
        source: path or URI of a feature table.
        target: path or URI of the new table.
        k: number of components to keep.
        overwrite: replace the target if it exists.
        master: Spark's master for a new session.
        spark: a session to use. By default the active session, or a new one that is stopped at the
            end.

    Raises:
        EngineError: Spark cannot run here, or is Spark Connect.
        TableError: the source is not a feature table, or the target cannot be written.
        UsageError: the vectors have fewer components.
        RunError: Spark could not continue.
    """
    check_spark(spark, master)
    for location, what in ((source, "`table`"), (target, "`target`")):
        check_spelling(location, what, TableError)
    source, target = canonical(source), canonical(target)
    local = None if is_remote(source) else FeatureTable.at(source)
    if local:
        refuse_delta(source)
        local.provenance()
    if not is_remote(target):
        check_target(local, FeatureTable.at(target), overwrite=overwrite)
    with session(spark, master) as active:
        if is_connect(active):
            raise EngineError(
                "Spark ML's PCA needs a classic session, got one of Spark Connect: give "
                "`master` local[4], spark://host:7077 or yarn"
            )
        rows, found = open_on_spark(active, source)
        if is_remote(target):
            _check_remote(source, target, active, overwrite=overwrite)
        with spark_errors(RunError, "Spark could not continue"):
            projection = _fit(rows, k, int(found["dimension"]))
            provenance = projection.provenance(found)
            projected = rows.select(FEATURE_SCHEMA.names).mapInArrow(
                _Task(projection), SPARK_SCHEMA
            )
            projected = projected.withMetadata("features", column_metadata(provenance))
            _write(projected, target, provenance, overwrite=overwrite)
            written = active.read.parquet(spark_path(target))
            count, points = written.count(), _points(written, projection.rows)
    return Projected(target, projection, count, provenance["fingerprint"], points)


@dataclass(frozen=True, slots=True)
class _Task:
    """The task that runs in Spark's Python workers."""

    projection: Projection

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            rows = pa.Table.from_batches([batch]).cast(FEATURE_SCHEMA)
            for part in rows.to_batches():
                yield self.projection.apply_to(part)


def _check_remote(source: str, target: str, spark: SparkSession, *, overwrite: bool) -> None:
    """Check on a Hadoop file system that the new table may be written."""
    if source.rstrip("/") == target.rstrip("/"):
        raise TableError(f"{target} is the table to project: give another `target`")
    if not overwrite and HadoopTableStore(target, spark).exists():
        raise TableError(f"{target} exists: give another `target`, or `overwrite`")


def _fit(rows: DataFrame, k: int, dimension: int) -> Projection:
    from pyspark.ml.feature import PCA
    from pyspark.ml.functions import array_to_vector
    from pyspark.ml.stat import Summarizer

    ok = rows.where("status = 'ok'").select(array_to_vector(rows["features"]).alias("vector"))
    summary: Any = ok.select(
        Summarizer.metrics("mean", "count").summary(ok["vector"]).alias("s")
    ).first()
    count = summary["s"]["count"]
    check_size(k, dimension, count)
    model = PCA(k=k, inputCol="vector", outputCol="projected").fit(ok)
    components = orient(np.asarray(model.pc.toArray(), np.float64).T)  # (D, k) -> (k, D)
    explained = np.asarray(model.explainedVariance.toArray(), np.float64)
    mean = np.asarray(summary["s"]["mean"].toArray(), np.float64)
    return Projection(mean, components, explained, count, "Spark ML")


def _write(rows: DataFrame, target: str, provenance: dict[str, str], *, overwrite: bool) -> None:
    if is_remote(target):
        store = HadoopTableStore(target, rows.sparkSession)
        with store.held(provenance, overwrite=overwrite):
            store.replace_all(rows)
        return
    table = FeatureTable.at(target)
    with writing(table, provenance, overwrite=overwrite) as writer:
        folder = writer.staging / "rows"
        write_parquet(rows, f"file:{folder.absolute()}")
        for part in sorted(folder.glob("part-*.parquet")):
            writer.commit(part)


def _points(rows: DataFrame, count: int) -> MapPoints:
    points = MapPoints(count)
    share = min(1.0, MAP_POINTS / max(count, 1))
    some = rows.where("status = 'ok'").selectExpr("slice(features, 1, 2) AS place", "label")
    chosen = (
        (some if share == 1.0 else some.sample(fraction=share, seed=0)).limit(MAP_POINTS).collect()
    )
    points.places.append(np.array([row["place"] for row in chosen], np.float32))
    points.labels += [row["label"] for row in chosen]
    return points
