"""Keras models to graphs."""
