"""A feature table in the files and databases of other programs.

`export.py` is the way of the rows: `rows.py` reads them, `target.py` says what a target is, and a
module in `files/` or `databases/` writes it.
"""
