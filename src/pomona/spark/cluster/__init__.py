"""What counts and cancels the tasks of a run."""
