"""Spark sessions: the caller's, or our own."""
