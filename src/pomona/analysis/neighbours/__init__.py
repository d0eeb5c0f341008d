"""Nearest neighbours: search and duplicates."""
