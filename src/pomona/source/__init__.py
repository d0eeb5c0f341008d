"""Listing images, reading their bytes, and giving them labels."""
