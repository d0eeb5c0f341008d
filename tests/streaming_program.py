"""A streaming program: each file in INBOX becomes a row of SINK, until it has read all files.

    python streaming_program.py INBOX SINK CHECKPOINT ENCODER FORMAT [--isolated]

Its Spark settings are in PYSPARK_SUBMIT_ARGS.
"""

from __future__ import annotations

import sys

from pyspark.sql import SparkSession

import pomona

inbox, sink, checkpoint, encoder, sink_format = sys.argv[1:6]
spark = SparkSession.builder.getOrCreate()
images = (
    spark.readStream.format("binaryFile")
    .schema("path string, modificationTime timestamp, length long, content binary")
    .option("recursiveFileLookup", True)
    .option("maxFilesPerTrigger", 24)
    .load(inbox)
)
rows = pomona.featurize(images, encoder, label="parent", isolated="--isolated" in sys.argv)
writer = rows.writeStream.option("checkpointLocation", checkpoint).trigger(availableNow=True)
writer.start(sink, format=sink_format).awaitTermination()
