"""Targets that are files. An export writes them whole, and renames them at the end."""
