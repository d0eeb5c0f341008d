"""The feature table: Parquet part files, provenance, commits."""
