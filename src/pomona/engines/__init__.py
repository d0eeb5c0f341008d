"""What runs the worker over a source into a table: on this machine, or on Spark."""
