"""Conversion of any graph to one from pixels to a vector."""
