"""What a run has to do: no engine is needed for that."""
