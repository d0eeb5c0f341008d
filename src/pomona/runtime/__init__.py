"""An encoder to a predict function, loaded once per process."""
