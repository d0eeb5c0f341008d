"""Encoder -> a folder that a model server loads: the network, its card, and vectors to check it."""
