"""Transfer learning on Spark: images -> vectors -> a classifier -> its test error.

    python examples/transfer_learning_spark.py photos/

The images are in one folder per class. In your own session on a cluster, you only need `run`.
It returns the test error.
"""

from __future__ import annotations

import argparse
import tempfile

from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.feature import StandardScaler, StringIndexer
from pyspark.ml.functions import array_to_vector
from pyspark.sql import SparkSession
from pyspark.sql.functions import col, element_at, split

import pomona


def run(
    spark: SparkSession, photos: str, table: str, encoder: pomona.Encoder, seed: int = 0
) -> float:
    """Train on four fifths of the photos, print the results, and return the test error."""
    # 1. Turn each image into a row once: the later steps read only vectors.
    images = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(photos)
    featurizer = pomona.ImageFeaturizer(encoder=encoder, errorCol="error")
    labelled = images.withColumn("label_name", element_at(split(col("path"), "/"), -2))
    rows = featurizer.transform(labelled).drop("content")
    rows.write.mode("overwrite").parquet(table)
    rows = spark.read.parquet(table)

    # 2. Report unreadable images. (Empty files are not included: `binaryFile` silently skips them,
    # while `pomona.extract` gives them a row.)
    rows.where("error is not null").select("path", "error").show(truncate=False)
    good = rows.where("error is null").withColumn("vector", array_to_vector("features"))

    # 3. Split, index the labels, train.
    train, test = good.randomSplit([0.8, 0.2], seed)
    pipeline = Pipeline(
        stages=[
            StringIndexer(inputCol="label_name", outputCol="label"),
            StandardScaler(inputCol="vector", outputCol="standard", withMean=True),
            LogisticRegression(featuresCol="standard", regParam=0.01, maxIter=20),
        ]
    )
    model = pipeline.fit(train)

    # 4. Evaluate on the held-out images.
    predictions = model.transform(test)
    predictions.groupBy("label_name").pivot("prediction").count().orderBy("label_name").show()
    accuracy = MulticlassClassificationEvaluator(metricName="accuracy").evaluate(predictions)
    print(f"Test error: {1 - accuracy:.4f} on {test.count()} images")
    return 1 - accuracy


def main() -> None:
    """Run on this machine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", help="a folder with a folder of images for each class")
    parser.add_argument("--weights", default="imagenet", help="as for 'pomona extract'")
    options = parser.parse_args()
    spark = SparkSession.builder.master("local[*]").appName("transfer learning").getOrCreate()
    encoder = pomona.build_encoder("mobilenet_v2", options.weights)
    with tempfile.TemporaryDirectory() as table:
        run(spark, options.photos, table, encoder)
    spark.stop()


if __name__ == "__main__":
    main()
