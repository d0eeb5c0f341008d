"""From a network and its weights to one self-contained blob."""
