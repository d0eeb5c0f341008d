"""A classifier on the vectors of a table."""
