"""Encoder -> predict function, loaded once in each process."""
