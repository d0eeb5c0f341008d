"""The work of a run, planned without an engine."""
