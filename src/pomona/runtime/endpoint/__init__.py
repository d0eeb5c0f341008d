"""Encoders that a model server computes: the client's side."""
