"""Counting and cancelling the tasks of a run."""
