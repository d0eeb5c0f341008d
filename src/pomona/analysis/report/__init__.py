"""The report: a page with a table's map, classes, suspected labels and duplicates."""
