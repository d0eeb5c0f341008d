"""Plots, and sheets of images."""
