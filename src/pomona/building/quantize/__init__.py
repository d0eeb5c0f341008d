"""Conversion of encoders to a lower precision."""
