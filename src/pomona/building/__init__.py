"""Building encoders from known networks and from network files."""
