"""The report: one page that shows a feature table, its map, its doubtful labels and its twins."""
