"""Measures search and duplicates on a large table, against plain numpy that loads it whole.

    python benchmarks/explore.py [--rows 100000] [--dimension 1280]

The table is synthetic: rows around the centres of 1,000 classes, none negative, like the output
of a network's last layer; one row in 50 is a copy with a little noise. Each measurement is a
separate process. It reports wall time and CPU time of the whole process, and its peak resident
size. If the two ways give different results, the script ends with an error.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pomona.schema import FEATURE_SCHEMA, schema_with_provenance
from pomona.worker.featurize import vectors_array
from run import machine

BLOCK = 5_000
CLASSES = 1_000
QUERIES = 20
THRESHOLD = 0.995

READ = """
import sys, time, numpy as np, pyarrow.parquet as pq
table = pq.read_table(sys.argv[1], columns=["path", "features"])
paths = table["path"].to_pylist()
rows = np.vstack([
    chunk.flatten().to_numpy().reshape(len(chunk), -1) for chunk in table["features"].chunks
])
del table
rows -= rows.sum(axis=0, dtype=np.float64) / (len(rows) + 3)
rows /= np.linalg.norm(rows, axis=1, keepdims=True)
"""
BRUTE_SEARCH = (
    READ
    + """
import json
found = {}
for query in sys.argv[2:]:
    cosines = rows @ rows[paths.index(query)]
    cosines[paths.index(query)] = -1
    found[query] = [paths[i] for i in np.argsort(-cosines)[:10]]
print(json.dumps(found))
"""
)
BRUTE_DUPLICATES = (
    READ
    + """
pairs = 0
for start in range(0, len(rows), 1000):
    near = rows[start:start + 1000] @ rows.T >= float(sys.argv[2])
    pairs += int(near.sum()) - len(near)
print(pairs // 2)
"""
)


def draw(folder: Path, count: int, dimension: int) -> None:
    """Write the table, with one part file per block."""
    random = np.random.default_rng(0)
    centres = random.gamma(0.6, 1.0, (CLASSES, dimension)).astype(np.float32)
    provenance = {
        "fingerprint": "0" * 64, "model": "random numbers", "weights": "none",
        "dimension": str(dimension), "decode": "exact",
    }  # fmt: skip
    schema = schema_with_provenance(provenance)
    import pyarrow.parquet as pq

    folder.mkdir()
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        labels = random.integers(CLASSES, size=size)
        vectors = centres[labels] + random.normal(0, 0.6, (size, dimension)).astype(np.float32)
        twins = np.arange(1, size, 50)
        vectors[twins] = vectors[twins - 1] + random.normal(0, 0.02, (len(twins), dimension))
        labels[twins] = labels[twins - 1]
        np.maximum(vectors, 0, out=vectors)
        columns = {
            "path": [f"file:/drawn/{label}/{start + i}.jpg" for i, label in enumerate(labels)],
            "label": [str(label) for label in labels],
            "features": vectors_array([True] * size, vectors.astype(np.float32)),
            "status": ["ok"] * size,
        }
        arrays = [columns.get(f.name, pa.nulls(size, f.type)) for f in FEATURE_SCHEMA]
        table = pa.Table.from_arrays([pa.array(a) for a in arrays], FEATURE_SCHEMA.names)
        pq.write_table(table.cast(schema), folder / f"part-{start:09d}.parquet")


class Measured(NamedTuple):
    seconds: float
    cpu_seconds: float
    memory_mb: float


def measured(*command: str | Path) -> tuple[str, str, Measured]:
    """Output, stderr, and resource usage of a command."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, *command], stdout=out, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        for file in (out, errors):
            file.seek(0)
        output, words = out.read(), errors.read()
    if process.returncode:
        sys.exit(f"{command}: {words}")
    cpu = usage.ru_utime + usage.ru_stime
    return output, words, Measured(seconds, cpu, usage.ru_maxrss / 1024)


def row(what: str, took: Measured, note: str = "") -> None:
    times = f"{took.seconds:.1f} | {took.cpu_seconds:.1f}"
    print(f"| {what} | {times} | {took.memory_mb:,.0f} MB | {note} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=1280)
    args = parser.parse_args()
    pomona = ("-m", "pomona")
    with tempfile.TemporaryDirectory(prefix="pomona-explore-") as scratch:
        folder, index = Path(scratch, "table"), Path(scratch, "index")
        draw(folder, args.rows, args.dimension)
        print(f"{machine()}; {args.rows:,} rows of {args.dimension:,} numbers\n")
        print("| what | seconds | on the processors | memory | |\n|---|---|---|---|---|")

        import pyarrow.parquet as pq

        first = pq.read_table(next(iter(sorted(folder.iterdir()))), columns=["path"])
        queries = first["path"].to_pylist()[: QUERIES * 7 : 7]
        out, _, took = measured("-c", BRUTE_SEARCH, folder, *queries)
        expected = json.loads(out)
        row(f"search, {QUERIES} images, plain numpy", took)
        out, _, took = measured(*pomona, "search", folder, *queries, "--json")
        row(f"search, {QUERIES} images, exact", took, agreement(out, expected))
        search = (*pomona, "search", folder, *queries, "--json", "--index", index)
        out, errors, took = measured(*search)
        note = errors.strip().rpartition("; ")[2]
        row("building the index, and searching it", took, note)
        out, _, took = measured(*search)
        row(f"search, {QUERIES} images, with the index", took, agreement(out, expected))

        out, _, took = measured("-c", BRUTE_DUPLICATES, folder, str(THRESHOLD))
        pairs = int(out)
        row("near duplicates, plain numpy", took, f"{pairs:,} pairs")
        out, _, took = measured(
            *pomona, "duplicates", folder, "--threshold", str(THRESHOLD), "--json"
        )
        groups = json.loads(out)["near"]
        spare = sum(len(group["members"]) - 1 for group in groups)
        row("near duplicates", took, f"{len(groups):,} groups")
        # Synthetic duplicates come in pairs: there are as many redundant images as pairs.
        if spare != pairs:
            sys.exit(f"{pairs} pairs by numpy, {spare} images to spare by pomona")


def agreement(out: str, expected: dict[str, list[str]]) -> str:
    """The share of numpy's results that were found."""
    found = {
        result["path"]: {match["path"] for match in result["matches"]}
        for result in json.loads(out)["results"]
    }
    same = sum(len(found[query] & set(paths)) for query, paths in expected.items())
    return f"{same / sum(map(len, expected.values())):.1%} of what numpy found"


if __name__ == "__main__":
    main()
