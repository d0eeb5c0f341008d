"""The baseline for Pomona: the notebook that people copy, as a script.

    python reference_notebook.py IMAGES OUTPUT.parquet --weights FILE [--master local[2]]

Spark's `binaryFile` reads, a Scalar Iterator pandas UDF rebuilds Keras' MobileNetV2 without its
last layer on each worker, sets the broadcast weights and predicts, and the features go to Parquet.
The script improves nothing: a truncated or grey image ends the run, and an empty file silently
gets no row.
Its environment is requirements.txt in this folder, and Java 17. Progress goes to stderr; the last
line on stdout is JSON: the number of images, and seconds since the start of this script.
"""
# ruff: noqa: E402 - the clock starts before the imports: loading TensorFlow is part of the cost

import time

STARTED = time.perf_counter()

import argparse
import io
import json
import os
import sys
from collections.abc import Iterator

import keras
import numpy as np
import pandas as pd
from keras.applications.mobilenet_v2 import MobileNetV2, preprocess_input
from keras.utils import img_to_array
from PIL import Image
from pyspark.sql import SparkSession
from pyspark.sql.functions import col, element_at, pandas_udf, split

INPUT_SHAPE = (224, 224, 3)
DIMENSION = 1280


def network(weights: str | None) -> keras.Model:
    return MobileNetV2(include_top=False, pooling="avg", weights=weights, input_shape=INPUT_SHAPE)


def preprocess(content: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(content)).resize([224, 224])
    return preprocess_input(img_to_array(image))


def featurize_series(model: keras.Model, content_series: pd.Series) -> pd.Series:
    images = np.stack(content_series.map(preprocess))
    predictions = model.predict(images)
    return pd.Series([prediction.flatten() for prediction in predictions])


def featurize(spark: SparkSession, images_folder: str, output: str, weights: str) -> None:
    images = (
        spark.read.format("binaryFile")
        .option("pathGlobFilter", "*.jpg")
        .option("recursiveFileLookup", "true")
        .load(images_folder)
    )
    images = images.withColumn("label", element_at(split(images["path"], "/"), -2))

    broadcast_weights = spark.sparkContext.broadcast(network(weights).get_weights())

    def model_fn() -> keras.Model:
        model = network(None)
        model.set_weights(broadcast_weights.value)
        return model

    @pandas_udf("array<float>")
    def featurize_udf(content_series_iter: Iterator[pd.Series]) -> Iterator[pd.Series]:
        model = model_fn()
        for content_series in content_series_iter:
            yield featurize_series(model, content_series)

    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "1024")
    features = images.repartition(20).select(
        col("path"), col("label"), featurize_udf("content").alias("features")
    )
    features.write.mode("overwrite").parquet(output)


def check(output: str) -> int:
    """Read the features back; return their number."""
    table = pd.read_parquet(output, engine="pyarrow")
    lengths = set(table["features"].map(len))
    if lengths != {DIMENSION}:
        sys.exit(f"{output}: features of length {sorted(lengths)}, expected {DIMENSION}")
    return len(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", help="folder with one folder of .jpg files per class")
    parser.add_argument("output", help="Parquet folder to write; replaced if it is there")
    parser.add_argument("--weights", required=True, help="MobileNetV2 .weights.h5 without its top")
    parser.add_argument("--master", default="local[2]")
    arguments = parser.parse_args()

    # The workers must run this very Python, with this TensorFlow.
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    spark = SparkSession.builder.appName("reference").master(arguments.master).getOrCreate()
    featurize(spark, arguments.images, arguments.output, arguments.weights)
    count = check(arguments.output)
    seconds = time.perf_counter() - STARTED
    spark.stop()
    print(json.dumps({"images": count, "seconds": round(seconds, 2)}))


if __name__ == "__main__":
    main()
